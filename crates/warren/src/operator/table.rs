//! Tables: aligned on a terminal, tab-separated without borders off it.

use std::fmt;
use std::io::IsTerminal;

use serde_json::Value;

/// Rows of text under headings. The columns from `first_number` on are aligned right if they hold numbers.
#[derive(Debug)]
pub(crate) struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
    first_number: usize,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(headings: &[&str], first_number: usize) -> Self {
        Self {
            headings: headings.iter().map(|text| (*text).to_owned()).collect(),
            rows: Vec::new(),
            first_number,
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    /// Tabs between cells.
    pub(crate) fn plain(&self) -> String {
        self.lines().map(|cells| cells.join("\t") + "\n").collect()
    }

    fn aligned(&self) -> String {
        let mut widths = vec![0; self.headings.len()];
        for cells in self.lines() {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        for cells in self.lines() {
            let mut line = String::new();
            for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                let right = column >= self.first_number && self.is_numeric(column);
                line += &if right { format!("{blanks}{cell}  ") } else { format!("{cell}{blanks}  ") };
            }
            text += line.trim_end();
            text += "\n";
        }
        text
    }

    fn is_numeric(&self, column: usize) -> bool {
        self.rows
            .iter()
            .filter_map(|cells| cells.get(column))
            .all(|cell| cell == "-" || cell.parse::<i64>().is_ok())
    }

    fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.headings).chain(&self.rows)
    }
}

/// For stdout: aligned if that is a terminal.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if std::io::stdout().is_terminal() { self.aligned() } else { self.plain() })
    }
}

/// One field of an object as text; `-` when it is absent or null.
pub(crate) fn field(object: &Value, name: &str) -> String {
    number(object.get(name))
}

/// A value as text; `-` when it is absent or null.
pub(crate) fn number(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => {
            value.to_string()
        }
    }
}

/// Names are the clients' own text: a tab or an escape sequence in one must not disturb a terminal or a script.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_right_and_names_left() {
        let mut table = Table::new(&["name", "ready"], 1);
        table.row(["q".to_owned(), "1000".to_owned()]);
        table.row(["longer".to_owned(), "7".to_owned()]);
        assert_eq!(table.aligned(), "name    ready\nq        1000\nlonger      7\n");
    }

    #[test]
    fn a_name_cannot_smuggle_control_characters_into_the_terminal() {
        let mut table = Table::new(&["name"], 1);
        table.row(["a\tb\x1b[2J".to_owned()]);
        assert_eq!(table.plain(), "name\na\u{fffd}b\u{fffd}[2J\n");
    }
}
