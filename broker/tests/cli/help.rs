//! `--help` of every command there is, found as a person finds them: in the help of the one above.

use super::world::World;

#[test]
fn every_command_explains_itself() {
    let world = World::new();
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let mut arguments: Vec<&str> = command.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = world.run(&arguments);
        let name: String = ["help".to_owned()].iter().chain(&command).map(String::as_str).collect::<Vec<_>>().join("_");
        insta::assert_snapshot!(name, help);
        seen += 1;
        let below = help.split_once("\nCommands:\n").map(|(_, rest)| rest).unwrap_or_default();
        // A line that begins a command is two blanks in; where its text goes on, it is further in.
        let lines = below.lines().take_while(|line| !line.is_empty());
        let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        for name in names.filter(|name| !["", "help"].contains(name)) {
            commands.push([&command[..], &[name.to_owned()]].concat());
        }
    }
    assert!(seen > 15, "{seen} commands");
}
