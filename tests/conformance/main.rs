//! Checks `conformance.tsv`. For each clause of the specification's implemented parts, the table
//! names the tests that show it, the reason why it does not apply, or the capability that it waits
//! for.
//!
//! The check fails for a clause without a row. It also fails for a row that names a test which does
//! not exist or does not pass: it runs the executables of the other tests with the names in the
//! table.
//!
//! `cargo test --test conformance -- --nocapture` prints the counts.

mod runs;
mod table;

use table::{PARTS, Row, Verdict};

fn rows() -> Vec<Row> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance.tsv");
    let text = std::fs::read_to_string(path).expect("tests/conformance.tsv can be read");
    match table::parse(&text) {
        Ok(rows) => rows,
        Err(problems) => panic!("tests/conformance.tsv:\n{}", problems.join("\n")),
    }
}

#[test]
fn every_clause_has_one_row() {
    let problems = table::incomplete(&rows());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_test_that_is_named_exists_and_passes() {
    let rows = rows();
    let problems = runs::problems(&rows);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn the_counts_of_all_verdicts_add_up() {
    let rows = rows();
    let mut sum = [0; 3];
    println!("{:<16} {:>6} {:>6} {:>6}", "part", "test", "n/a", "later");
    for (part, _) in PARTS {
        let counts = [Verdict::Test, Verdict::NotApplicable, Verdict::Later]
            .map(|verdict| table::count(&rows, part, verdict));
        println!(
            "{part:<16} {:>6} {:>6} {:>6}",
            counts[0], counts[1], counts[2]
        );
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count;
        }
    }
    println!("{:<16} {:>6} {:>6} {:>6}", "sum", sum[0], sum[1], sum[2]);
    assert_eq!(sum.iter().sum::<usize>(), rows.len());
}
