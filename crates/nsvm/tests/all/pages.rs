//! The generated pages `docs/rules`. `cargo xtask generate` writes them.

use std::collections::BTreeMap;
use std::fs;
use vmcb::Rule;

fn pages() -> BTreeMap<String, String> {
    let mut pages: BTreeMap<String, String> =
        Rule::ALL.iter().map(|rule| (format!("{}.md", rule.id()), nsvm::rule_page(*rule))).collect();
    pages.insert("index.md".into(), nsvm::index_page());
    pages
}

#[test]
fn generated_file_docs_rules() {
    let folder = crate::common::root().join("docs/rules");
    let pages = pages();
    if std::env::var_os("NSVM_GENERATE").is_some() {
        fs::create_dir_all(&folder).expect("the folder");
        for (name, text) in &pages {
            fs::write(folder.join(name), text).expect("a page");
        }
    }
    let hint = "run `cargo xtask generate`";
    for (name, text) in &pages {
        let found = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(found == *text, "docs/rules/{name} is stale or missing: {hint}");
    }
    for entry in fs::read_dir(&folder).expect("the folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        assert!(pages.contains_key(&name), "docs/rules/{name} is the page of no rule");
    }
}

#[test]
fn every_link_of_the_index_has_its_page() {
    let index = nsvm::index_page();
    let links = index.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect::<Vec<_>>();
    assert_eq!(links.len(), Rule::ALL.len());
    for link in links {
        assert!(pages().contains_key(link), "{link}");
    }
}
