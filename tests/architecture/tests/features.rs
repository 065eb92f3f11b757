//! `docs/features.md` names a test for every statement, or says that there is none yet; and every test it names exists.

use std::path::{Path, PathBuf};

/// Where it is now: one target directory may serve several clones.
fn root() -> PathBuf {
    let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    Path::new(&package).join("../..")
}

/// The rows of the page's tables: number, statement, proof.
fn rows(page: &str) -> Vec<(&str, &str, &str)> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = lines.filter_map(|line| {
        let mut cells = line.splitn(3, " | ");
        Some((cells.next()?, cells.next()?, cells.next()?))
    });
    cells.filter(|(number, ..)| number.starts_with(|letter: char| letter.is_ascii_uppercase())).collect()
}

#[test]
fn every_statement_names_tests_that_exist_or_says_not_yet() {
    let page = std::fs::read_to_string(root().join("docs/features.md")).unwrap();
    let rows = rows(&page);
    assert!(rows.len() > 100, "only {} statements were found", rows.len());
    let mut wrong = Vec::new();
    for (number, _, proof) in rows {
        if proof == "not yet" {
            continue;
        }
        for reference in proof.split(", ") {
            let named = reference.strip_prefix('`').and_then(|text| text.strip_suffix('`'));
            let Some((file, name)) = named.and_then(|named| named.split_once("::")) else {
                wrong.push(format!("{number}: {reference} names no test"));
                continue;
            };
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            let keyword = if file.ends_with(".py") { "def" } else { "fn" };
            if !text.contains(&format!("{keyword} {name}(")) {
                wrong.push(format!("{number}: there is no test {file}::{name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
