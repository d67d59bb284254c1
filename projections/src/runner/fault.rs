//! What can go wrong in a crew, and whose fault it is.

use signalbox_store::{Class, Error, Statement};

/// Why a crew does not go on as it did.
pub(crate) enum Fault {
    /// Of the store for all of us, or passing.
    Store(Error),
    /// Of one member for good.
    Member(usize, Error),
    /// A guard did not hold: somebody has taken over, or the database is not where we left it. Beginning again tells.
    Guard,
    Bus(signalbox_bus::Error),
}

impl From<signalbox_bus::Error> for Fault {
    fn from(error: signalbox_bus::Error) -> Self {
        Self::Bus(error)
    }
}

impl Fault {
    pub(crate) fn of(member: usize, error: Error) -> Self {
        if error.is_retryable() { Self::Store(error) } else { Self::Member(member, error) }
    }

    /// Of a transaction that begins with the member's guard.
    pub(crate) fn guarded(member: usize, error: Error) -> Self {
        if error.class() == Class::Fenced { Self::Guard } else { Self::of(member, error) }
    }
}

/// Why a part of a batch was not committed.
pub(crate) enum Refused {
    /// The database refuses a row of this member for the event with this index.
    Row(usize, usize, String),
    Fault(Fault),
}

/// Statements with whose they are: the member, and the event for a write.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) statements: Vec<Statement>,
    pub(crate) owners: Vec<(usize, Option<usize>)>,
    /// The members whose guards it has: once it is committed, each of them has passed.
    pub(crate) guarded: Vec<usize>,
}

impl Transaction {
    pub(crate) fn guard(&mut self, member: usize, guard: Statement) {
        self.guarded.push(member);
        self.add(member, None, [guard]);
    }

    pub(crate) fn add(
        &mut self,
        member: usize,
        event: Option<usize>,
        statements: impl IntoIterator<Item = Statement>,
    ) {
        self.statements.extend(statements);
        self.owners.resize(self.statements.len(), (member, event));
    }
}

/// What a refused transaction means, and to whom.
pub(crate) fn refused(error: Error, owners: &[(usize, Option<usize>)]) -> Refused {
    match error.statement().and_then(|at| owners.get(at)) {
        Some((member, Some(event))) if error.class() == Class::Row => {
            Refused::Row(*member, *event, error.to_string())
        }
        // The row of the parking table or of a position is ours: that one being refused is no event's fault.
        Some((member, _)) => Refused::Fault(Fault::guarded(*member, error)),
        None => Refused::Fault(Fault::Store(error)),
    }
}
