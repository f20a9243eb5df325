//! Reading and verifying the log.
