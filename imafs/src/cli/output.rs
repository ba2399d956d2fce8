//! Standard output, where a reader who has gone away is no failure.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::{Failure, Outcome};

/// Prints a text and a newline if it lacks one; a closed pipe ends quietly.
pub fn print(text: &str) -> Outcome {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    print_bytes(format!("{text}{newline}").as_bytes())
}

/// Prints bytes as they are; a closed pipe ends quietly.
pub fn print_bytes(bytes: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::cannot("write to standard output", error)),
    }
}

/// Lays rows out in columns two spaces apart, the last one unpadded.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count().min(*width) + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_in_no_blanks() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let text = table(&[row(&["ID", "PID", "TARGET"]), row(&["web-1", "7", "/x"])]);
        assert_eq!(text, "ID     PID  TARGET\nweb-1  7    /x\n");
        assert_eq!(table(&[]), "");
    }
}
