//! Tests of reading YAML: places, types, and what hostile documents cost.

use super::*;

fn refused(text: &str) -> Diagnostic {
    *Node::read(text).expect_err("the document was read")
}

fn place(node: &Node) -> (u32, u32) {
    (node.span.line, node.span.column)
}

#[test]
fn every_part_knows_its_place() {
    let text = "name: orders\nlist:\n  - 1\n  - {a: true, b: ~}\n  - \"q # é\"\n  - tail\n";
    let node = Node::read(text).unwrap();
    assert_eq!(place(node.get("name").unwrap()), (1, 7));
    let list = node.entry("list").unwrap();
    assert_eq!((list.key_span.line, list.key_span.column), (2, 1));
    let items = list.value.items();
    assert_eq!(items.iter().map(place).collect::<Vec<_>>(), [(3, 5), (4, 5), (5, 5), (6, 5)]);
    let entry = items[1].entry("b").unwrap();
    assert_eq!((entry.key_span.column, entry.value.span.column), (15, 18));
    for (span, covered) in [
        (node.get("name").unwrap().span, "orders"),
        (list.key_span, "list"),
        (entry.key_span, "b"),
        (items[2].span, "\"q # é\""),
        (items[3].span, "tail"),
    ] {
        assert_eq!(&text[span.start..span.end], covered);
    }
}

#[test]
fn scalars_have_the_types_of_yaml_1_2() {
    let text = "[yes, on, true, 0x10, 1.5, 1e3, '1', ~, '', 2026-01-01, 18446744073709551616]";
    let node = Node::read(text).unwrap();
    let kinds: Vec<_> = node.items().iter().map(Node::what).collect();
    let expected = [
        "a text",
        "a text",
        "a boolean",
        "an integer",
        "a number",
        "a number",
        "a text",
        "nothing",
        "a text",
        "a text",
    ];
    assert_eq!(kinds[..10], expected);
    assert_eq!(node.items()[3].integer(), Some(16));
}

#[test]
fn an_alias_stands_where_it_is_used() {
    let node = Node::read("a: &x {k: 1}\nb: *x\n").unwrap();
    assert_eq!(place(node.get("b").unwrap()), (2, 4));
    assert_eq!(node.at(&["b", "k"]).and_then(Node::integer), Some(1));
}

#[test]
fn a_key_that_is_there_twice_is_refused_with_its_place() {
    let problem = refused("a: 1\nb: 2\na: 3\n");
    assert_eq!((problem.rule, problem.span.line, problem.span.column), (Rule::Syntax, 3, 1));
    assert!(problem.message.contains("twice"), "{}", problem.message);
}

#[test]
fn broken_yaml_is_refused_with_its_place() {
    for (text, line) in [("a: [1, 2\nb: 3\n", 2), ("a: 'x\n", 1), ("a: b: c\n", 1), ("a: *x\n", 1)]
    {
        let problem = refused(text);
        assert_eq!(problem.rule, Rule::Syntax, "{text}: {}", problem.message);
        assert!(problem.span.line >= line, "{text}: {problem:?}");
    }
}

#[test]
fn a_second_document_is_refused() {
    let problem = refused("a: 1\n---\nb: 2\n");
    assert_eq!(
        (problem.span.line, problem.message.as_str()),
        (2, "there is more than one document")
    );
}

#[test]
fn a_billion_laughs_are_refused() {
    let mut text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..10 {
        let last = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![last; 10].join(", "));
    }
    assert_eq!(refused(&text).rule, Rule::Limit);
}

#[test]
fn nesting_has_a_limit() {
    for text in ["[".repeat(100_000), "a: ".to_owned() + &"{a: ".repeat(1_000), {
        (0..200).map(|level| format!("{}a:\n", " ".repeat(level))).collect()
    }] {
        let problem = refused(&text);
        assert!(matches!(problem.rule, Rule::Limit | Rule::Syntax), "{}", problem.message);
    }
}

#[test]
fn a_huge_document_is_refused_before_it_is_read() {
    let problem = refused(&"x".repeat(100_000_000));
    assert_eq!(problem.rule, Rule::Limit);
    assert_eq!(problem.message, "100000000 bytes are over the limit of 4194304");
}

#[test]
fn a_huge_anchor_cannot_be_repeated_without_end() {
    let big = "x".repeat(1_000_000);
    let text = format!("a: &a {big}\nb: [{}]\n", vec!["*a"; 5_000].join(", "));
    assert_eq!(refused(&text).rule, Rule::Limit);
}

#[test]
fn many_small_values_have_a_limit() {
    let problem = refused(&format!("[{}]", "1,".repeat(MAX_NODES + 1)));
    assert_eq!(problem.message, "more than 200000 values");
}

#[test]
fn aliases_within_aliases_do_not_nest_without_end() {
    let (open, close) = ("[".repeat(25), "]".repeat(25));
    let mut text = format!("a0: &a0 {open}1{close}\n");
    for level in 1..200 {
        text += &format!("a{level}: &a{level} {open}*a{}{close}\n", level - 1);
    }
    assert_eq!(refused(&text).rule, Rule::Limit);
}

#[test]
fn an_alias_counts_with_what_is_in_it() {
    let text = format!("a: &a [{}]\nb: [{}]\n", "x, ".repeat(5_000), "*a, ".repeat(99));
    assert_eq!(refused(&text).message, "repeats too much by aliases");
}
