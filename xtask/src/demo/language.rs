//! The two tenants, in the languages that the base images run.

use anyhow::{Result, bail};

/// A base image and what is shown with it.
pub(super) struct Language {
    /// As `--runtime` and the image are called.
    pub(super) name: &'static str,
    /// Tenant A's function, which leaves a card number in five places, and when called
    /// without one does what tenant B's does.
    pub(super) tenant_a: &'static str,
    /// Tenant B's, which looks for it.
    pub(super) tenant_b: &'static str,
    /// One that adds numbers, to be measured with.
    pub(super) sum: &'static str,
}

const LANGUAGES: &[Language] = &[
    Language {
        name: "python",
        tenant_a: include_str!("tenant_a.py"),
        tenant_b: include_str!("tenant_b.py"),
        sum: "def main(args):\n    return {\"sum\": sum(args[\"numbers\"])}\n",
    },
    script("javascript"),
    script("node"),
    Language {
        name: "lua",
        tenant_a: include_str!("tenant_a.lua"),
        tenant_b: include_str!("tenant_b.lua"),
        sum: "function main(args)\n  local sum = 0\n  for _, number in ipairs(args.numbers) do\n    sum = sum + number\n  end\n  return { sum = sum }\nend\n",
    },
];

const fn script(name: &'static str) -> Language {
    Language {
        name,
        tenant_a: include_str!("tenant_a.js"),
        tenant_b: include_str!("tenant_b.js"),
        sum: "exports.main = ({ numbers }) => ({ sum: numbers.reduce((a, b) => a + b) });\n",
    }
}

/// What `--runtime` asks for.
pub(super) fn asked_for(name: &str) -> Result<Vec<&'static Language>> {
    let chosen: Vec<_> = LANGUAGES
        .iter()
        .filter(|language| name == "all" || language.name == name)
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = LANGUAGES.iter().map(|language| language.name).collect();
        bail!(
            "there is no runtime {name:?}; there is: all, {}",
            names.join(", ")
        );
    }
    Ok(chosen)
}
