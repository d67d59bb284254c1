//! A named subscription on a broker: what its holder has in hand, and how an acknowledgement finds its batch.

use crate::event::Source;
use crate::hints::{Epoch, Hint, Hints};
use crate::subscription::{Error, Progress};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

/// Batches that can still be acknowledged; who holds more in hand acknowledges later ones.
const IN_HAND: usize = 1_024;

/// A name that is held, and the batches handed over under it.
pub(crate) struct Named {
    name: String,
    epoch: Epoch,
    hints: Arc<dyn Hints>,
    /// What can be acknowledged, oldest first.
    in_hand: VecDeque<(Vec<Progress>, Hint)>,
    /// Sources of batches that an acknowledgement has passed: one that comes late is of none that is left.
    passed: VecDeque<Weak<Source>>,
}

impl Named {
    /// Takes the name, fencing whoever held it, and says where that one was.
    ///
    /// # Errors
    /// Those of [`Hints::acquire`].
    pub(crate) async fn take(name: String, hints: Arc<dyn Hints>) -> Result<(Self, Option<Hint>), Error> {
        let asked = name.clone();
        let (epoch, hint) = blocking(&hints, move |hints| hints.acquire(&asked)).await?;
        let (in_hand, passed) = (VecDeque::new(), VecDeque::new());
        Ok((Self { name, epoch, hints, in_hand, passed }, hint))
    }

    /// A batch is handed over. Its sources become its own: by them an acknowledgement says which batch it is of, for
    /// numbers of different partitions do not tell one batch from another.
    pub(crate) fn hand_over(&mut self, progress: &mut [Progress], hint: &Hint) {
        if progress.is_empty() {
            return;
        }
        for one in progress.iter_mut() {
            one.source = Arc::new((*one.source).clone());
        }
        if self.in_hand.len() == IN_HAND {
            self.in_hand.pop_front();
        }
        self.in_hand.push_back((progress.to_vec(), hint.clone()));
    }

    /// Saves where the batch ended that this progress is of. When that fails it can be acknowledged again.
    ///
    /// # Errors
    /// Those of [`Hints::save`].
    pub(crate) async fn acknowledge(&mut self, at: Option<usize>) -> Result<(), Error> {
        let Some((_, hint)) = at.and_then(|at| self.in_hand.get(at)) else { return Ok(()) };
        let (name, epoch, hint) = (self.name.clone(), self.epoch, hint.clone());
        blocking(&self.hints, move |hints| hints.save(&name, epoch, &hint)).await?;
        for (handed, _) in self.in_hand.drain(..=at.unwrap_or_default()) {
            self.passed.extend(handed.iter().map(|one| Arc::downgrade(&one.source)));
        }
        self.passed.drain(..self.passed.len().saturating_sub(IN_HAND));
        Ok(())
    }

    /// The batch that this progress is of, the last one where it was put together from several.
    pub(crate) fn find(&self, progress: &[Progress]) -> Option<usize> {
        let same = |one: &Progress| progress.iter().any(|other| Arc::ptr_eq(&one.source, &other.source));
        let of_batch = self.in_hand.iter().rposition(|(handed, _)| handed.iter().any(same));
        let late =
            |one: &Progress| self.passed.iter().any(|passed| passed.as_ptr() == Arc::as_ptr(&one.source));
        if of_batch.is_none() && progress.iter().any(late) {
            return None;
        }
        // A copy says less: then the first batch that came so far.
        of_batch.or_else(|| self.in_hand.iter().position(|(handed, _)| handed == progress))
    }
}

/// Hints are files or rows.
async fn blocking<T: Send + 'static>(
    hints: &Arc<dyn Hints>,
    work: impl FnOnce(&dyn Hints) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let hints = Arc::clone(hints);
    let done = tokio::task::spawn_blocking(move || work(&*hints)).await;
    done.map_err(|error| Error::Broken(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use signalbox_base::{EventSeq, JournalId};
    use std::sync::Mutex;

    /// What was saved; a full disk as often as it says.
    #[derive(Default)]
    struct Shelf {
        saved: Mutex<Vec<String>>,
        full: Mutex<usize>,
    }

    impl Hints for Shelf {
        fn acquire(&self, _: &str) -> Result<(Epoch, Option<Hint>), Error> {
            let last = self.saved.lock().unwrap().last().map(|hint| Hint(hint.as_str().into()));
            Ok((Epoch(1), last))
        }

        fn save(&self, _: &str, _: Epoch, hint: &Hint) -> Result<(), Error> {
            let mut full = self.full.lock().unwrap();
            if *full > 0 {
                *full -= 1;
                return Err(Error::Unavailable("no space left on device".to_owned()));
            }
            self.saved.lock().unwrap().push(hint.0.as_str().to_owned());
            Ok(())
        }
    }

    fn progress(through: u64) -> Vec<Progress> {
        let source = Source { cluster: "prod".into(), edge: "edge-1".into(), journal: JournalId(7) };
        vec![Progress { source: source.into(), through: EventSeq(through), end: EventSeq(9) }]
    }

    async fn acknowledge(named: &mut Named, progress: &[Progress]) -> Result<(), Error> {
        let at = named.find(progress);
        named.acknowledge(at).await
    }

    fn named(shelf: &Arc<Shelf>) -> Named {
        let hints = Arc::clone(shelf) as Arc<dyn Hints>;
        let (in_hand, passed) = (VecDeque::new(), VecDeque::new());
        Named { name: "tables".to_owned(), epoch: Epoch(1), hints, in_hand, passed }
    }

    #[tokio::test]
    async fn given_a_save_that_failed_when_acknowledged_again_then_it_is_saved() {
        let shelf = Arc::new(Shelf { full: Mutex::new(1), ..Shelf::default() });
        let mut named = named(&shelf);
        let mut batch = progress(3);
        named.hand_over(&mut batch, &Hint("after 3".into()));
        assert!(matches!(acknowledge(&mut named, &batch).await, Err(Error::Unavailable(_))));
        acknowledge(&mut named, &batch).await.unwrap();
        assert_eq!(*shelf.saved.lock().unwrap(), ["after 3"]);
        acknowledge(&mut named, &batch).await.unwrap();
        assert_eq!(shelf.saved.lock().unwrap().len(), 1, "once is enough");
    }

    #[tokio::test]
    async fn given_batches_that_came_equally_far_when_one_is_acknowledged_then_its_own_hint_is_saved() {
        let shelf = Arc::new(Shelf::default());
        let mut named = named(&shelf);
        let (mut first, mut second, mut third) = (progress(3), progress(3), progress(3));
        for (batch, hint) in [(&mut first, "first"), (&mut second, "second"), (&mut third, "third")] {
            named.hand_over(batch, &Hint(hint.into()));
        }
        acknowledge(&mut named, &second).await.unwrap();
        acknowledge(&mut named, &first).await.unwrap();
        assert_eq!(*shelf.saved.lock().unwrap(), ["second"], "an older one is acknowledged by a newer one");
        acknowledge(&mut named, &progress(3)).await.unwrap();
        assert_eq!(*shelf.saved.lock().unwrap(), ["second", "third"], "a copy: the first that is left");
    }
}
