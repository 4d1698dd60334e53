//! An image of a folder.

use std::io::{self, Write};

use serde_json::json;

use super::Show;
use crate::build::{Builder, Context, Recipe, Said};
use crate::cli::Build;
use crate::error::{Error, Exit};

pub(super) fn build(show: Show, given: &Build) -> Result<Exit, Error> {
    let folder = &given.folder;
    if !folder.is_dir() {
        let shown = folder.display();
        return Err(Error::Usage(format!(
            "{shown} is no folder: name the one that the function is in"
        )));
    }
    let said = Said {
        file: given.file.as_deref(),
        handler: given.handler.as_deref(),
        runtime: given.runtime,
        base: given.base.as_deref(),
    };
    let recipe = Recipe::of(folder, &said)?;
    let dockerfile = recipe.dockerfile();
    let Some(tag) = given.tag.as_deref().filter(|_| !given.print_dockerfile) else {
        let document = || json!({"dockerfile": dockerfile});
        show.result(document, |out| write!(out, "{dockerfile}"))?;
        return Ok(Exit::Ok);
    };
    if folder.join("Dockerfile").is_file() {
        return Err(Error::Usage(format!(
            "{} has a Dockerfile of its own, which says how its image is made: `docker build -t {tag} {0}`",
            folder.display()
        )));
    }
    let builder = given.builder.map_or_else(Builder::find, Ok)?;
    let context = Context::of(folder, recipe.installs_packages())?;
    say(&format!(
        "{} on {}, with {}",
        recipe.handler,
        recipe.base,
        builder.name()
    ));
    if !context.left_out.is_empty() {
        let names: Vec<&str> = context.left_out.iter().map(String::as_str).collect();
        say(&format!("left out: {}", names.join(", ")));
    }
    let written = context
        .write_dockerfile(&dockerfile)
        .map_err(|error| Error::Here(format!("writing the Dockerfile: {error}")))?;
    let built = builder.build(&context.path(), &written, tag, &given.rest);
    if let Err(error) = built {
        // The builder's own words for that are many, and name no way out.
        if !builder.has(&recipe.base) {
            return Err(Error::NoImage(format!(
                "{error}; {} does not have the base image {}: images/README.md says how it is made, and --base names another",
                builder.name(),
                recipe.base
            )));
        }
        return Err(error);
    }
    let document = || json!({"image": tag, "builder": builder.name(), "handler": recipe.handler});
    show.result(document, |out| writeln!(out, "{tag}"))?;
    Ok(Exit::Ok)
}

fn say(what: &str) {
    let _ = writeln!(io::stderr(), "funk: {what}");
}
