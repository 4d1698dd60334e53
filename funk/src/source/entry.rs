//! Finding out what a module has without running it: what stands where definitions stand.

use super::Runtime;

/// The functions that are meant where nobody names one, the first before the second.
pub(super) const NAMES: [&str; 2] = ["handler", "main"];

/// Which of them this source has, as far as it can be told.
pub(super) fn defined(runtime: Runtime, text: &str) -> Option<&'static str> {
    let defines = match runtime {
        Runtime::Python => python,
        Runtime::JavaScript | Runtime::Node => javascript,
        Runtime::Lua => lua,
        Runtime::Java => return None,
    };
    NAMES.into_iter().find(|name| defines(text, name))
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// What comes after this word, if the text begins with it.
fn after<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let rest = text.strip_prefix(word)?;
    (!rest.starts_with(is_part_of_word)).then(|| rest.trim_start())
}

/// The text without these words at its beginning.
fn without<'a>(mut text: &'a str, words: &[&str]) -> &'a str {
    while let Some(rest) = words.iter().find_map(|word| after(text, word)) {
        text = rest;
    }
    text
}

fn has_word(text: &str, name: &str) -> bool {
    text.split(|c| !is_part_of_word(c)).any(|word| word == name)
}

/// `name = …`, and no comparison.
fn is_assigned(text: &str, name: &str) -> bool {
    let rest = after(text, name).and_then(|rest| rest.strip_prefix('='));
    rest.is_some_and(|rest| !rest.starts_with('='))
}

fn python(text: &str, name: &str) -> bool {
    // What is indented is a part of something else.
    text.lines().any(|line| {
        let definition = without(line, &["async"]);
        let is_defined = ["def", "class"]
            .iter()
            .any(|word| after(definition, word).is_some_and(|it| after(it, name).is_some()));
        let imported = after(line, "from").and_then(|it| it.split_once(" import "));
        is_defined
            || is_assigned(line, name)
            || imported.is_some_and(|(_, names)| has_word(names, name))
    })
}

fn javascript(text: &str, name: &str) -> bool {
    let is_defined = text.lines().any(|line| {
        let line = line.trim_start();
        let definition = without(line, &["export", "default", "async"]);
        let introduced = ["function", "const", "let", "var", "class"]
            .iter()
            .find_map(|word| after(definition, word));
        let introduced = introduced.map(|it| it.trim_start_matches('*').trim_start());
        let exported = line
            .strip_prefix("module.")
            .unwrap_or(line)
            .strip_prefix("exports.");
        introduced.is_some_and(|it| after(it, name).is_some())
            || exported.is_some_and(|it| is_assigned(it, name))
    });
    // Lists of names, over as many lines as they take.
    let is_listed = [
        "export {",
        "export{",
        "module.exports = {",
        "module.exports={",
    ]
    .iter()
    .flat_map(|opening| text.split(opening).skip(1))
    .filter_map(|list| list.split('}').next())
    .any(|names| has_word(names, name));
    is_defined || is_listed
}

fn lua(text: &str, name: &str) -> bool {
    let is_defined = text.lines().any(|line| {
        let line = without(line.trim_start(), &["local"]);
        let introduced = after(line, "function").unwrap_or(line);
        // A field of the table that the module is.
        let field = introduced
            .split_once('.')
            .map_or(introduced, |(table, field)| {
                if table.chars().all(is_part_of_word) {
                    field
                } else {
                    introduced
                }
            });
        let is_function = introduced.len() < line.len() && after(field, name).is_some();
        is_function || is_assigned(field, name)
    });
    let returned = text.rsplit_once("return").map_or("", |(_, value)| value);
    is_defined || has_word(returned, name) && returned.trim_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(runtime: Runtime, expected: Option<&str>, texts: &[&str]) {
        for text in texts {
            assert_eq!(defined(runtime, text), expected, "{runtime}: {text}");
        }
    }

    #[test]
    fn definitions_are_found_however_they_are_written() {
        let handler = Some("handler");
        all(
            Runtime::Python,
            handler,
            &[
                "import os\n\ndef handler(event, context):\n  pass",
                "async def handler(event): pass",
                "handler = Mangum(app)",
                "handler=main\ndef main(a): pass",
                "from shop.api import Api, handler",
                "class handler:\n  pass",
            ],
        );
        all(
            Runtime::Node,
            handler,
            &[
                "export const handler = async (event) => 1;",
                "export async function handler(event) {}",
                "export function* handler() {}",
                "exports.handler = () => 1",
                "module.exports.handler = () => 1",
                "module.exports = {\n  other,\n  handler,\n};",
                "function f() {}\nexport { f as handler };",
                "function handler(e) {}",
            ],
        );
        all(
            Runtime::Lua,
            handler,
            &[
                "local function handler(event) end\nreturn { handler = handler }",
                "local M = {}\nfunction M.handler(e) end\nreturn M",
                "M.handler = f",
                "return { handler = function() end }",
            ],
        );
    }

    #[test]
    fn a_word_somewhere_is_no_definition() {
        let main = Some("main");
        let python = "import logging\ndef main(args):\n    handler = logging.StreamHandler()\n    if handler == 1: pass\n";
        all(
            Runtime::Python,
            main,
            &[python, "def handlers(): pass\ndef main(): pass"],
        );
        all(
            Runtime::Node,
            main,
            &["// the handler\nfunction main(args) { return handler; }"],
        );
        all(
            Runtime::Lua,
            main,
            &["-- handler\nfunction main(args) return args end"],
        );
        all(
            Runtime::Python,
            None,
            &["", "x = 1", "def mainly(): pass", "handler == 1"],
        );
    }
}
