//! Why TLS cannot be set up: which file, what is wrong with it, what to do.

use std::path::PathBuf;

/// An error of a person's making.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate file cannot be read, or holds none.
    #[error("{}: {why}; write the certificate and behind it those of its issuers, as PEM", file.display())]
    Certificate {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key file cannot be read, or holds none.
    #[error("{}: {why}; write the certificate's private key without a passphrase, as PEM", file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Key and certificate are not a pair.
    #[error(
        "{}: is not the key of the certificate in {}; name the files that were made together",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// A file of authorities cannot be used.
    #[error("{}: {why}; write the certificates of the authorities, as PEM", file.display())]
    Authorities {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The library refuses a combination of its own.
    #[error("tls: {0}")]
    Library(rustls::Error),
}
