//! Where things are in the repository.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The repository's root.
pub fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The bytes of a file, by its path from the root.
pub fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    std::fs::read(root().join(path)).with_context(|| format!("reading {path}"))
}

/// As [`read`], for text.
pub fn read_text(path: &str) -> anyhow::Result<String> {
    Ok(String::from_utf8(read(path)?)?)
}

/// The files of a folder with this extension, in the order of their names.
pub fn files(folder: &str, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(root().join(folder)).with_context(|| format!("in {folder}"))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
