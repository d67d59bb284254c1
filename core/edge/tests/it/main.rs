//! Stories of a whole edge on the loopback interface, with a journal on disk.
