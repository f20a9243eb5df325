//! How deep a policy's text goes, before Cedar's parser follows it down: that has no limit of its own, and a thread whose stack
//! overflows takes the whole broker with it.

/// Brackets within brackets, at most.
const DEEPEST: usize = 48;

/// Operators of one policy, at most: a chain of them is a tree as deep as the chain is long.
const LONGEST: usize = 200;

/// Where the text goes deeper than any policy needs, in bytes from its beginning, and what to do; `None` where it does not.
pub(super) fn too_deep(text: &str) -> Option<(usize, String)> {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut rest = text.bytes().enumerate().peekable();
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'"' => {
                while let Some((_, byte)) = rest.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(rest.next()),
                        _ => {}
                    }
                }
            }
            b'/' if rest.peek().is_some_and(|(_, next)| *next == b'/') => {
                while rest.next_if(|(_, byte)| *byte != b'\n').is_some() {}
            }
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b';' => operators = 0,
            b'&' | b'|' => {
                rest.next_if(|(_, next)| *next == byte);
                operators += 1;
            }
            b'!' | b'-' | b'+' | b'*' | b'.' => operators += 1,
            b'i' if text.get(at..at + 2) == Some("if") => operators += 1,
            _ => {}
        }
        if depth > DEEPEST {
            return Some((at, format!("more than {DEEPEST} brackets stand within each other; make it flatter")));
        }
        if operators > LONGEST {
            let why = format!("the policy has more than {LONGEST} operators; make several policies of it");
            return Some((at, why));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::fixture::load;
    use super::*;

    fn when(condition: &str) -> String {
        format!(
            "@id(\"deep\") permit (principal, action == Action::\"hold:os:reader\", resource) when {{ {condition} }};"
        )
    }

    /// Each on a thread with the stack that a worker has: what gets through must not overflow it.
    #[test]
    fn case_02_no_policy_is_so_deep_that_it_ends_the_broker() {
        let parentheses = |n: usize| when(&format!("{}true{}", "(".repeat(n), ")".repeat(n)));
        let lists = |n: usize| when(&format!("{}{} == []", "[".repeat(n), "]".repeat(n)));
        let ands = |n: usize| when(&vec!["context.mode == \"direct\""; n / 2].join(" && "));
        let ors = |n: usize| when(&vec!["true"; n].join(" || "));
        let ifs = |n: usize| when(&format!("{}true", "if true then false else ".repeat(n)));
        let nots = |n: usize| {
            when(&format!("{}true", "!(".repeat(n / 2)).replace("true", &format!("true{}", ")".repeat(n / 2))))
        };
        let attributes = |n: usize| when(&format!("context{} == 1", ".a".repeat(n)));
        let made: [(&str, &dyn Fn(usize) -> String); 7] = [
            ("parentheses", &parentheses),
            ("lists", &lists),
            ("ands", &ands),
            ("ors", &ors),
            ("ifs", &ifs),
            ("nots", &nots),
            ("attributes", &attributes),
        ];
        for (what, make) in made {
            for n in [10, 40, 90, 190] {
                // loads or does not: the thread comes back
                let _ = load(&make(n));
            }
            for n in [1_000, 50_000] {
                let error = load(&make(n)).expect_err(what).to_string();
                assert!(error.contains("within each other") || error.contains("operators"), "{what}: {error}");
            }
        }
    }

    #[test]
    fn what_stands_in_text_and_comments_is_not_deep() {
        let brackets = "(".repeat(500);
        assert_eq!(too_deep(&format!("// {brackets}\n@hint(\"{brackets} \\\" {brackets}\") permit();")), None);
        assert_eq!(too_deep(&"permit (a && b);\n".repeat(5_000)), None, "many policies");
        assert!(too_deep(&brackets).is_some_and(|(at, why)| at == DEEPEST && why.contains("brackets")));
    }
}
