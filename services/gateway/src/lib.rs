//! The only public port: routes, limits, balances.
