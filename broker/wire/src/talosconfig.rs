//! The talosconfig file.
