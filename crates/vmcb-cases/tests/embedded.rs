//! The rows inside the crate are those of `cases/`.

use std::path::Path;
use vmcb_cases::{embedded, number, read, read_all};

/// A new file in `cases/` is read by vmcb's tests at once; here it must be named.
#[test]
fn every_file_of_rows_is_embedded() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<_> = std::fs::read_dir(&directory)
        .expect("the rows")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
        .filter(|name| name.ends_with(".txt"))
        .collect();
    files.sort();
    assert!(files.iter().map(String::as_str).eq(embedded().iter().map(|(name, _)| *name)), "{files:?}");
    for (name, text) in embedded() {
        assert_eq!(*text, std::fs::read_to_string(directory.join(name)).expect(name), "{name}");
    }
    let (embedded, read) = (read(embedded()).unwrap(), read_all(&directory).unwrap());
    let ids = |rows: &vmcb_cases::Rows| rows.cases.iter().map(|case| case.id.clone()).collect::<Vec<_>>();
    assert!(ids(&embedded) == ids(&read) && ids(&read).len() > 500);
    assert!(embedded.bases.iter().any(|base| base.name == "seves64" && base.vmsa.is_some()));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let files = [("bases.txt", "base b = cr9=1\n"), ("a.txt", "\nid.a | any | - | b | - | - | - | - | 15\n")];
    let errors: Vec<_> = read(&files).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["bases.txt:1: no field is named `cr9`", "a.txt:2: no base is named `b`"]);
    let missing = read_all(Path::new("no such directory")).unwrap_err();
    assert_eq!(missing[0].place, "no such directory");
    for text in ["", "0x", "+1", "0x+1", "-1", "18446744073709551616"] {
        assert!(number(text).is_err(), "{text}");
    }
    assert!(vmcb_cases::items("0xffffffffffffffff:8=1").is_err());
}
