//! Reads the source: who uses whom, and where `unsafe` is.
//!
//! A module may name `crate::` paths of its own and of the modules in its row, nothing else.

#![cfg(test)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Everything that `node` may use; `container` is the shim's.
const BELOW_NODE: &[&str] = &[
    "agent", "spec", "config", "ca", "seal", "logs", "image", "shim", "rpc", "net", "files", "sys",
    "model", "limits",
];

/// Each module of the library and those that it may use.
const ALLOWED: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("model", &["limits"]),
    ("agent", &["model", "limits"]),
    ("spec", &["model", "limits"]),
    ("sys", &["limits"]),
    ("files", &[]),
    ("crypto", &[]),
    ("config", &["model", "limits"]),
    ("ca", &["model", "limits"]),
    ("seal", &["model", "sys", "limits"]),
    ("logs", &["model", "sys", "limits"]),
    ("net", &["model", "sys", "limits"]),
    ("image", &["model", "files", "sys", "crypto", "config", "limits"]),
    ("container", &["net", "model", "files", "sys", "limits"]),
    ("shim", &["container", "logs", "model", "files", "sys", "limits"]),
    ("rpc", &["ca", "crypto", "model", "limits"]),
    ("node", BELOW_NODE),
];

/// Modules that may use every other one.
const TOP: [&str; 3] = ["cli", "main", "lib"];

#[test]
fn modules_only_use_what_lies_below_them() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if TOP.contains(&module.as_str()) {
            continue;
        }
        let Some((_, row)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module `{module}` has no row", path.display()));
            continue;
        };
        for used in crate_paths(&code_of(&text)) {
            if used != module && !row.contains(&used.as_str()) {
                wrong.push(format!("{}: `{module}` uses `{used}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        let found = words(&code_of(&text)).any(|word| word == "unsafe");
        if found && module != "sys" {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "unsafe in {}", wrong.join(", "));
}

/// What the standard library has for it keeps a descriptor and a stack frame for each level, and a
/// container makes as many levels as it likes.
#[test]
fn trees_are_removed_by_files_alone() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let of_tests =
            path.file_stem().is_some_and(|name| name.to_string_lossy().ends_with("tests"));
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        if !of_tests && words(&code_of(shipped)).any(|word| word == "remove_dir_all") {
            wrong.push(path.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "files::remove_tree is for that: {}", wrong.join(", "));
}

/// What a test can not run here it is ignored for, with its reason (`tests/support/build.rs` knows what there is),
/// or it fails. One that returns would be counted as passed.
#[test]
fn no_test_passes_without_having_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let mut look = |path: &Path, text: &str| {
        for test in text.split("#[test]").skip(1) {
            // Up to the end of the test, or of the file's tests: one brace in the first column.
            let end = test.find("\n}").unwrap_or(test.len());
            let body = &test[..end];
            let head = body.split_once("{\n").map_or("", |(_, rest)| rest);
            // What a test does first is what it may return for.
            let first: String = head.lines().take(4).collect::<Vec<_>>().join("\n");
            let by_hand = body.contains("#[ignore");
            if !by_hand && WAYS_OUT.iter().any(|way| first.contains(way)) {
                let name = body.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
                wrong.push(format!("{}: {}", path.display(), name.unwrap_or_default()));
            }
        }
    };
    for folder in ["src", "tests"] {
        for (path, text) in sources_below(&root.join(folder)) {
            look(&path, &text);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How a test that can not run would leave.
const WAYS_OUT: [&str; 4] = ["is_root() {", "or_skip", "skipped: ", "else { return };"];

#[test]
fn the_rows_have_no_cycle_and_name_only_rows() {
    for (at, (name, row)) in ALLOWED.iter().enumerate() {
        for used in *row {
            let below = ALLOWED[..at].iter().any(|(other, _)| other == used);
            assert!(below, "`{name}` may use `{used}`, which does not stand above it");
        }
    }
}

#[test]
fn paths_are_found_in_every_spelling() {
    let code = code_of(
        "use crate::a::B;\nuse crate::{\n  b::{C, d::E},\n  f,\n};\nlet x = crate::g::h();\n\
         // crate::comment::x\n/* crate::block::x */ let s = \"crate::string::x\";\n\
         pub(crate) fn i() {} let r = r#\"crate::raw::x \" \"#; let c = '\"'; crate :: j :: k();",
    );
    assert_eq!(crate_paths(&code), ["a", "b", "f", "g", "j"]);
}

fn sources() -> Vec<(PathBuf, String)> {
    sources_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

fn sources_below(root: &Path) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root.to_owned()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 10, "the source is where it is looked for");
    found
}

/// The first component below `src`.
fn module_of(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let first = path.strip_prefix(root).unwrap().components().next().unwrap();
    let name = first.as_os_str().to_str().unwrap();
    name.strip_suffix(".rs").unwrap_or(name).to_owned()
}

/// The text with comments and literals blanked.
fn code_of(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut code = String::new();
    let mut i = 0;
    while i < chars.len() {
        let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < chars.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                while i < chars.len() && !(at(i) == '*' && at(i + 1) == '/') {
                    i += 1;
                }
                i += 2;
            }
            'r' if !word_before && matches!(at(i + 1), '"' | '#') => {
                let hashes = (i + 1..).take_while(|n| at(*n) == '#').count();
                if at(i + 1 + hashes) != '"' {
                    code.push('r');
                    i += 1;
                    continue;
                }
                i += 2 + hashes;
                let closes = |n: usize| at(n) == '"' && (1..=hashes).all(|h| at(n + h) == '#');
                while i < chars.len() && !closes(i) {
                    i += 1;
                }
                i += 1 + hashes;
            }
            '"' => {
                i += 1;
                while i < chars.len() && at(i) != '"' {
                    i += if at(i) == '\\' { 2 } else { 1 };
                }
                i += 1;
            }
            '\'' if at(i + 1) == '\\' => {
                i += 3;
                while i < chars.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            '\'' if at(i + 2) == '\'' => i += 3,
            other => {
                code.push(other);
                i += 1;
            }
        }
    }
    code
}

/// Names and single other characters, in order.
fn words(code: &str) -> impl Iterator<Item = String> {
    let mut found: Vec<String> = Vec::new();
    let mut inside = false;
    for c in code.chars() {
        let part = c.is_alphanumeric() || c == '_';
        match found.last_mut() {
            Some(last) if part && inside => last.push(c),
            _ if c.is_whitespace() => {}
            _ => found.push(c.to_string()),
        }
        inside = part;
    }
    found.into_iter()
}

/// The module after each `crate::`, with `use crate::{a, b::c}` opened.
fn crate_paths(code: &str) -> Vec<String> {
    let words: Vec<String> = words(code).collect();
    let mut found = Vec::new();
    for (i, window) in words.windows(4).enumerate() {
        if window[0] != "crate" || window[1] != ":" || window[2] != ":" {
            continue;
        }
        if window[3] != "{" {
            found.push(window[3].clone());
            continue;
        }
        let mut depth = 0;
        let mut first = false;
        for word in &words[i + 3..] {
            match word.as_str() {
                "{" => {
                    depth += 1;
                    first = depth == 1;
                }
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                "," => first = depth == 1,
                name => {
                    if first {
                        found.push(name.to_owned());
                    }
                    first = false;
                }
            }
        }
    }
    found
}
