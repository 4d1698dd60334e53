//! Where modules come from that no path of the image leads to.

use refunction_adapter::archive::Archive;

/// The module that an archive begins with.
pub(crate) const MAIN_MODULE: &str = "main";

/// The files that a module's name stands for, the first that is there being meant.
pub(crate) fn candidates(module: &str) -> [String; 2] {
    let path = module.replace('.', "/");
    [format!("{path}.lua"), format!("{path}/init.lua")]
}

/// A module of the archive's: its file and its text.
///
/// # Errors
/// It is there and cannot be read; a phrase that says why.
pub(crate) fn find(archive: &Archive, module: &str) -> Option<Result<(String, Vec<u8>), String>> {
    let file = candidates(module)
        .into_iter()
        .find(|file| archive.has(file))?;
    let text = archive.read(&file)?;
    Some(text.map(|text| (file, text)))
}
