//! The only code that knows glommio, sockets, clocks and signals.
