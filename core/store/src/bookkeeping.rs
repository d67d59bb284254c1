//! The tables that the others are kept by: one that is gone is made again, empty. What it knew is found out again: who
//! folds is settled anew, and without positions history is read from its beginning, over rows that bear it.

use crate::error::{Class, Error};
use crate::migrations;
use crate::schema;
use crate::statement::Statement;
use crate::store::Store;

const TABLES: [&str; 10] = [
    "lease",
    "outbox",
    "outbox_counter",
    "outbox_relay",
    "parked",
    "projection_hint",
    "projection_holder",
    "projection_position",
    "projection_rebuild",
    "store_meta",
];

impl Store {
    /// Makes those that are missing, and returns their names. The tables must be migrated.
    ///
    /// # Errors
    /// [`Class::Schema`] for one that is there but damaged: it may hold what is known nowhere else, so a person decides.
    pub async fn restore_bookkeeping(&self) -> Result<Vec<&'static str>, Error> {
        let faults = self.table_faults(&TABLES).await?;
        if let Some(damaged) = faults.iter().find(|fault| fault.damaged) {
            let message = format!(
                "{}: stop Signalbox, DROP TABLE {}, and start it again; the table is made anew",
                damaged.what, damaged.table
            );
            return Err(Error::new(Class::Schema, message));
        }
        let missing: Vec<&'static str> = faults.iter().map(|fault| fault.table).collect();
        if missing.is_empty() {
            return Ok(missing);
        }
        let make = |name: &&'static str| {
            let sql = format!("CREATE TABLE IF NOT EXISTS {name} {}", schema::table(name)?.body);
            Ok(Statement::new(sql, Vec::new()))
        };
        self.transaction(missing.iter().map(make).collect::<Result<_, Error>>()?).await?;
        if missing.contains(&"outbox_counter") || missing.contains(&"store_meta") {
            self.number_anew().await?;
        }
        Ok(missing)
    }

    /// Events of the store never use a number twice: they go on behind those that are left, else under another id.
    async fn number_anew(&self) -> Result<(), Error> {
        const GO_ON: [&str; 2] = [
            "INSERT INTO outbox_counter (domain, value) SELECT '*', MAX(sequence) FROM outbox \
                HAVING COUNT(*) > 0 ON CONFLICT (domain) DO NOTHING",
            "INSERT INTO outbox_counter (domain, value) SELECT domain, MAX(domainsequence) FROM outbox \
                WHERE 1 = 1 GROUP BY domain ON CONFLICT (domain) DO NOTHING",
        ];
        const FORGET_ID: &str = "DELETE FROM store_meta WHERE name = 'store_id' \
            AND NOT EXISTS (SELECT 1 FROM outbox_counter)";
        let go_on = GO_ON.into_iter().chain([FORGET_ID]).map(|sql| Statement::new(sql, Vec::new()));
        self.transaction(go_on.collect()).await?;
        if !self
            .query("SELECT 1 AS one FROM store_meta WHERE name = 'store_id'", Vec::new())
            .await?
            .is_empty()
        {
            return Ok(());
        }
        self.execute(migrations::store_id(self), Vec::new()).await.map(drop)
    }
}
