//! A table whose columns fit what they hold and whose rows fit the screen.

use super::{Screen, safe};
use std::fmt::Write;

/// On which side a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text under headings.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

const GAP: usize = 2;

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty, an empty cell prints as `–`, and what
    /// would act on a terminal is escaped.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| safe(cell).into_owned()).collect());
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The text, each line ended. Too wide for the screen, the widest left-aligned columns are cut with `…`.
    #[must_use]
    pub fn render(&self, screen: &Screen) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.fit(&mut widths, screen.width);
        let mut out = String::new();
        let head: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        out.push_str(&screen.paint(1, &self.line(&head, &widths)));
        out.push('\n');
        for row in &self.rows {
            out.push_str(&self.line(row, &widths));
            out.push('\n');
        }
        out
    }

    fn fit(&self, widths: &mut [usize], screen: usize) {
        const COLUMN_MIN: usize = 8;
        let total = |w: &[usize]| w.iter().sum::<usize>() + GAP * w.len().saturating_sub(1);
        while total(widths) > screen {
            let left = self
                .columns
                .iter()
                .enumerate()
                .filter(|(i, (_, a))| *a == Align::Left && widths[*i] > COLUMN_MIN);
            match left.map(|(i, _)| i).max_by_key(|i| widths[*i]) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            }
        }
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for (i, ((_, align), width)) in self.columns.iter().zip(widths).enumerate() {
            let cell = cells.get(i).map(String::as_str).filter(|c| !c.is_empty()).unwrap_or("–");
            let cell = cut(cell, *width);
            let _ = match align {
                Align::Left => write!(out, "{cell:<width$}"),
                Align::Right => write!(out, "{cell:>width$}"),
            };
            out.push_str(&" ".repeat(GAP));
        }
        out.truncate(out.trim_end().len());
        out
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_screen() {
        let mut table = Table::new(&[("NAME", Align::Left), ("N", Align::Right)]);
        table.row(vec!["a-very-long-name-indeed".into(), "7".into()]);
        table.row(vec![String::new(), "1234".into()]);
        let wide = table.render(&Screen { colour: false, width: 80 });
        assert_eq!(
            wide,
            "NAME                        N\na-very-long-name-indeed     7\n–                        1234\n"
        );
        let narrow = table.render(&Screen { colour: false, width: 18 });
        assert!(narrow.lines().all(|l| l.chars().count() <= 18), "{narrow}");
        assert!(narrow.contains('…'));
    }
}
