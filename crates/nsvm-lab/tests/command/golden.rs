//! The golden master of `nsvm lab` and `nsvm l0`.

use super::common::{nsvm, root};
use super::replay::replay;

#[test]
fn answers_are_those_of_the_golden_master() {
    let run = |words: &[&str], _: &str| nsvm(words).assert().get_output().clone();
    assert_eq!(replay(&root().join("golden/lab.txt"), &run), 15);
}
