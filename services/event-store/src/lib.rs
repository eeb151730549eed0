//! The only writer of normalized events, and the query API over them.
