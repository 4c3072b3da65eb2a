//! The table: its rows, and the clauses that it must contain.

use std::collections::BTreeMap;

/// The parts of the specification, and the number of clauses of each. Clauses are numbered from 1.
pub const PARTS: [(&str, usize); 26] = [
    ("status", 5),
    ("features", 5),
    ("reset", 3),
    ("config", 4),
    ("notif", 1),
    ("cleanup", 2),
    ("vqreset", 4),
    ("suspend", 14),
    ("rsvd", 11),
    ("split-framing", 2),
    ("split-desc", 5),
    ("split-indirect", 2),
    ("split-avail", 3),
    ("split-usedsup", 6),
    ("split-used", 7),
    ("split-availsup", 5),
    ("packed", 24),
    ("shm", 3),
    ("mmio", 34),
    ("blk", 75),
    ("entropy", 2),
    ("driver", 24),
    ("i2c", 14),
    ("spi", 12),
    ("console", 12),
    ("gpio", 23),
];

/// The capabilities that a clause may wait for.
pub const CAPABILITIES: [&str; 1] = ["input device"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The named tests show the clause.
    Test,
    /// The clause does not apply to this project; the evidence says why.
    NotApplicable,
    /// The clause waits for a capability.
    Later,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub id: String,
    pub verdict: Verdict,
    /// Tests as `file::path`, separated by spaces; a reason; or a capability.
    pub evidence: String,
}

impl Row {
    /// The part that a clause belongs to, if its id has the right form.
    fn part(&self) -> Option<&str> {
        let (part, number) = self.id.rsplit_once('-')?;
        let digits = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        digits.then_some(part)
    }
}

/// Parses the rows; returns either the rows or all problems.
pub fn parse(text: &str) -> Result<Vec<Row>, Vec<String>> {
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    let mut lines = text.lines();
    if lines.next() != Some("id\tverdict\tevidence") {
        problems.push("the first line is not the header".to_string());
    }
    for line in lines {
        match parse_row(line) {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(format!("{line:?}: {problem}")),
        }
    }
    if problems.is_empty() {
        Ok(rows)
    } else {
        Err(problems)
    }
}

fn parse_row(line: &str) -> Result<Row, String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[id, verdict, evidence] = fields.as_slice() else {
        return Err(format!("{} fields instead of 3", fields.len()));
    };
    if evidence.trim() != evidence || evidence.is_empty() {
        return Err("no evidence, or spaces around it".to_string());
    }
    let verdict = match verdict {
        "test" => {
            let vague = evidence.split(' ').find(|name| !name.contains("::"));
            if let Some(name) = vague {
                return Err(format!("{name:?} is not file::test"));
            }
            Verdict::Test
        }
        "n/a" if evidence.split(' ').count() < 4 => {
            return Err("the reason is shorter than four words".to_string());
        }
        "n/a" => Verdict::NotApplicable,
        "later" if !CAPABILITIES.contains(&evidence) => {
            return Err(format!("not one of {CAPABILITIES:?}"));
        }
        "later" => Verdict::Later,
        _ => return Err("the verdict is not test, n/a or later".to_string()),
    };
    Ok(Row {
        id: id.to_string(),
        verdict,
        evidence: evidence.to_string(),
    })
}

/// Finds clauses without exactly one row, and rows without a clause.
pub fn incomplete(rows: &[Row]) -> Vec<String> {
    let mut count = BTreeMap::new();
    for row in rows {
        *count.entry(row.id.clone()).or_insert(0) += 1;
    }
    let mut problems = Vec::new();
    for (part, clauses) in PARTS {
        for number in 1..=clauses {
            let id = format!("{part}-{number:02}");
            match count.remove(&id) {
                Some(1) => {}
                Some(rows) => problems.push(format!("{id} has {rows} rows")),
                None => problems.push(format!("{id} has no row")),
            }
        }
    }
    problems.extend(count.keys().map(|id| format!("{id} is no clause")));
    problems
}

/// Counts the rows of a part with this verdict.
pub fn count(rows: &[Row], part: &str, verdict: Verdict) -> usize {
    rows.iter()
        .filter(|row| row.part() == Some(part) && row.verdict == verdict)
        .count()
}

/// A table with a row for every clause.
fn complete() -> Vec<Row> {
    let mut rows = Vec::new();
    for (part, clauses) in PARTS {
        for number in 1..=clauses {
            let id = format!("{part}-{number:02}");
            rows.push(parse_row(&format!("{id}\ttest\tfile::test")).expect("a row"));
        }
    }
    rows
}

#[test]
fn a_complete_table_is_complete() {
    assert_eq!(incomplete(&complete()), Vec::<String>::new());
    assert_eq!(count(&complete(), "split-used", Verdict::Test), 7);
}

#[test]
fn a_clause_without_a_row_is_named() {
    for gone in [0, 100, 213] {
        let mut rows = complete();
        let id = rows.remove(gone).id;
        assert_eq!(incomplete(&rows), [format!("{id} has no row")]);
    }
}

#[test]
fn a_clause_with_two_rows_and_a_row_without_a_clause_are_named() {
    let mut rows = complete();
    rows[1].id = "status-01".to_string();
    rows.push(parse_row("future-01\tlater\tinput device").expect("a row"));
    let problems = [
        "status-01 has 2 rows",
        "status-02 has no row",
        "future-01 is no clause",
    ];
    assert_eq!(incomplete(&rows), problems);
}

#[test]
fn rows_of_the_wrong_shape_are_refused() {
    let header = "id\tverdict\tevidence";
    assert!(parse(header).is_ok_and(|rows| rows.is_empty()));
    for bad in [
        "mmio-01",
        "mmio-01\ttest",
        "mmio-01\ttest\t",
        "mmio-01\ttest\tfile::test ",
        "mmio-01\ttest\tfile::one  file::two",
        "mmio-01\ttest\tfile::one two",
        "mmio-01\ttest\tfile::one\tfile::two",
        "mmio-01\tn/a\tno",
        "mmio-01\tlater\tsome day",
        "mmio-01\tmaybe\tfile::test",
    ] {
        assert!(parse(&format!("{header}\n{bad}")).is_err(), "{bad:?}");
        assert!(parse(bad).is_err(), "{bad:?}");
    }
    let good = "mmio-01\ttest\tfile::one file::two\nmmio-09\tlater\tinput device";
    assert_eq!(
        parse(&format!("{header}\n{good}")).map(|rows| rows.len()),
        Ok(2)
    );
}
