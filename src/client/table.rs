//! Tables for people: columns as wide as their first page needs.

use std::io::{self, Write};

use crate::terminal;

/// Widest cell, in characters; ids and reasons fit.
const CELL_MAX: usize = 80;

/// Rows that are printed a page at a time under one header.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    widths: Vec<usize>,
}

// === impl Table ===

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|name| (*name).to_owned()).collect()], widths: Vec::new() }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| terminal::one_line(cell, CELL_MAX)).collect());
    }

    /// Prints the rows since the last call. Later pages keep the widths of the first.
    pub(crate) fn print(&mut self, out: &mut dyn Write) -> io::Result<()> {
        if self.widths.is_empty() {
            let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
            let width =
                |at: usize| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
            self.widths = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        }
        for row in self.rows.drain(..) {
            let cells = row.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }
}
