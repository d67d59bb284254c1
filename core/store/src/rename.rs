//! The same statements on other tables: a rebuild writes beside the tables that people read.

use crate::statement::Statement;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Which tables are written under another name.
#[derive(Debug)]
pub struct Renames {
    tables: Vec<(&'static str, String)>,
    /// Texts that were rewritten already; a program has few.
    known: Mutex<HashMap<String, String>>,
}

impl Renames {
    /// Writes each table of `tables` under its name with `suffix` behind it.
    #[must_use]
    pub fn new(tables: &[&'static str], suffix: &str) -> Arc<Self> {
        let tables = tables.iter().map(|name| (*name, format!("{name}{suffix}"))).collect();
        Arc::new(Self { tables, known: Mutex::default() })
    }

    fn sql(&self, sql: &str) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(text) = known.get(sql) {
            return text.clone();
        }
        let text = self.rewritten(sql);
        known.insert(sql.to_owned(), text.clone());
        text
    }

    /// Names stand alone, before a dot or behind one; what is in quotes is left.
    fn rewritten(&self, sql: &str) -> String {
        let mut out = String::with_capacity(sql.len() + 64);
        for (n, part) in sql.split('\'').enumerate() {
            if n > 0 {
                out.push('\'');
            }
            if n % 2 == 1 {
                out.push_str(part);
                continue;
            }
            let mut rest = part;
            while let Some(begin) = rest.find(is_word) {
                let end = rest[begin..].find(|c| !is_word(c)).map_or(rest.len(), |end| begin + end);
                let word = &rest[begin..end];
                let other = self.tables.iter().find(|(name, _)| *name == word);
                out.push_str(&rest[..begin]);
                out.push_str(other.map_or(word, |(_, name)| name));
                rest = &rest[end..];
            }
            out.push_str(rest);
        }
        out
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}

impl Statement {
    /// The same statement on tables of other names, and so what it may do instead.
    #[must_use]
    pub fn renamed(mut self, renames: &Arc<Renames>) -> Self {
        self.sql = Cow::Owned(renames.sql(&self.sql));
        if let Some(otherwise) = self.otherwise.take() {
            let renames = Arc::clone(renames);
            self.otherwise = Some(Box::new(move || {
                otherwise().into_iter().map(|statement| statement.renamed(&renames)).collect()
            }));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_get_another_name_and_columns_values_and_parameters_stay() {
        let renames = Renames::new(&["calls", "cdr"], "_rebuild");
        let sql = "UPDATE calls SET state = 'calls', cdr_id = $1 WHERE calls.sequence < excluded.sequence";
        let statement = Statement::new(sql, Vec::new())
            .or_else(|| vec![Statement::new("DELETE FROM cdr", Vec::new())])
            .renamed(&renames);
        assert_eq!(
            statement.sql,
            "UPDATE calls_rebuild SET state = 'calls', cdr_id = $1 WHERE calls_rebuild.sequence < excluded.sequence"
        );
        let otherwise = statement.otherwise.unwrap()();
        assert_eq!(otherwise[0].sql, "DELETE FROM cdr_rebuild");
    }
}
