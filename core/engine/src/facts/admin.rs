//! What operators did.

use super::Fact;
use crate::turn::Turn;
use signalbox_base::Text;
use signalbox_schemas::admin::AdminActed;
use signalbox_schemas::words::Outcome;

/// Somebody gave a command.
#[must_use]
pub fn acted(turn: &Turn<'_>, actor: &Text, action: &str, target: &str, outcome: Result<(), &str>) -> Fact {
    let event = AdminActed {
        edge: turn.edge(),
        actor: actor.clone(),
        action: Text::new(action),
        target: (!target.is_empty()).then(|| Text::new(target)),
        outcome: if outcome.is_ok() { Outcome::Done } else { Outcome::Refused },
        reason: outcome.err().map(Text::new),
    };
    Fact::new(event, Text::new("admin"), turn.now.wall)
}
