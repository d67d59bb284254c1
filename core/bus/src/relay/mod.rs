//! From a journal, or the store's outbox, to a broker: in order by key, once, whatever dies.
