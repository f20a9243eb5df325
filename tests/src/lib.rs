//! A small world for the suites: a provider, a broker, nodes and people, all in this process, over real HTTP and TLS, on one
//! clock that stands still until a test moves it.

mod faulty;
mod people;
mod world;

pub use faulty::{Fault, Faults, Hold};
pub use people::{Person, confirm, log_in, sign_in};
pub use world::{
    CLUSTER, Lives, Options, Prepare, Surroundings, World, init_folder, run_command, start_openbao, tell_elsewhere,
};
