//! Whole lives of contracts by the default rule table and by the other one: step by step as a table, and over every path that
//! there is. What one step may refuse is `contract.rs`, what makes a table wrong `tables.rs`.

use hufu_trade::{
    contract::next,
    entry::EntryKind,
    rules::{CONTEST, CORRECT, EXPIRE, Guard, Party, Row, RuleTable, Write},
};

use crate::contract::{ALL, table};

fn other() -> RuleTable {
    RuleTable::from_toml(include_str!("../../testdata/rules/other.toml")).unwrap()
}

/// Does the acts one after the other; each must lead to the state beside it.
fn check(name: &str, table: &RuleTable, acts: &[(&str, &str)]) {
    let mut state = table.start.clone();
    for (act, want) in acts {
        let step = next(table, &state, act, ALL).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        assert_eq!(step.next, *want, "{name}: {act} in {state}");
        state = step.next.to_owned();
    }
    let goes_on: Vec<&str> = table.rows.iter().filter(|row| row.state == state).map(|row| row.act.as_str()).collect();
    assert!(goes_on.is_empty(), "{name}: ends in {state}, which allows {goes_on:?}");
}

const TO_SERVICE: [(&str, &str); 3] = [("browse", "offered"), ("order", "ordered"), ("deal", "serving")];

/// The same from the deal on.
fn served(name: &str, acts: &[(&str, &str)]) {
    check(name, &table(), &[&TO_SERVICE, acts].concat());
}

#[test]
fn the_whole_life_of_a_contract_is_allowed() {
    served(
        "everything",
        &[
            ("renew", "serving"),
            ("suspend", "suspending"),
            ("pause", "suspended"),
            ("renew", "suspended"),
            ("resume", "serving"),
            ("terminate", "leaving"),
            ("leave", "ended"),
            ("bill", "billed"),
            ("dispute", "disputed"),
            ("correct", "billed"),
            ("overdue", "overdue"),
            ("dispute", "disputed"),
            ("uphold", "billed"),
            ("pay", "paid"),
            ("dispute", "reopened"),
            ("withdraw", "paid"),
            ("dispute", "reopened"),
            ("correct", "refunding"),
            ("refund", "refunded"),
            ("score", "refunded_scored"),
            ("close", "closed"),
        ],
    );
    let to_bill = [("expire", "ended"), ("bill", "billed")];
    served("the short way", &[&to_bill[..], &[("pay", "paid"), ("score", "scored"), ("close", "closed")]].concat());
    served("never scored", &[&to_bill[..], &[("pay", "paid"), ("close", "closed")]].concat());
    served(
        "scored first, then all the rest",
        &[
            &to_bill[..],
            &[
                ("score", "billed_scored"),
                ("contest", "disputed_scored"),
                ("correct", "billed_scored"),
                ("dispute", "disputed_scored"),
                ("withdraw", "billed_scored"),
                ("overdue", "overdue_scored"),
                ("dispute", "disputed_scored"),
                ("uphold", "billed_scored"),
                ("pay", "scored"),
                ("dispute", "reopened_scored"),
                ("uphold", "scored"),
                ("dispute", "reopened_scored"),
                ("withdraw", "scored"),
                ("dispute", "reopened_scored"),
                ("correct", "refunding_scored"),
                ("refund", "refunded_scored"),
                ("close", "closed"),
            ],
        ]
        .concat(),
    );
    let ways_out: [&[(&str, &str)]; 10] = [
        &[("exhaust", "ended")],
        &[("revoke", "leaving"), ("leave", "ended")],
        &[("revoke", "leaving"), ("expire", "ended")],
        &[("terminate", "leaving"), ("expire", "ended")],
        &[("suspend", "suspending"), ("expire", "ended")],
        &[("suspend", "suspending"), ("pause", "suspended"), ("expire", "ended")],
        &[("suspend", "suspending"), ("pause", "suspended"), ("terminate", "ended")],
        &[("suspend", "suspending"), ("pause", "suspended"), ("revoke", "ended")],
        &[("suspend", "suspending"), ("pause", "suspended"), ("resume", "serving"), ("expire", "ended")],
        &[("renew", "serving"), ("renew", "serving"), ("expire", "ended")],
    ];
    let rest = [("bill", "billed"), ("overdue", "overdue"), ("score", "overdue_scored"), ("pay", "scored")];
    for way in ways_out {
        served("a way out of service", &[way, &rest, &[("close", "closed")]].concat());
    }
    for (scored_in, acts) in [
        ("disputed", &[("dispute", "disputed"), ("score", "disputed_scored"), ("correct", "billed_scored")][..]),
        ("overdue", &[("overdue", "overdue"), ("score", "overdue_scored")]),
        (
            "refused late",
            &[
                ("overdue", "overdue"),
                ("contest", "disputed"),
                ("score", "disputed_scored"),
                ("correct", "billed_scored"),
            ],
        ),
    ] {
        served(scored_in, &[&to_bill, acts, &[("pay", "scored"), ("close", "closed")]].concat());
    }
    for (scored_in, acts) in [
        ("reopened", &[("score", "reopened_scored"), ("correct", "refunding_scored")]),
        ("refunding", &[("correct", "refunding"), ("score", "refunding_scored")]),
    ] {
        let head = [("pay", "paid"), ("dispute", "reopened")];
        let tail = [("refund", "refunded_scored"), ("close", "closed")];
        served(scored_in, &[&to_bill[..], &head, acts, &tail].concat());
    }
    check("lapsed", &table(), &[("browse", "offered"), ("lapse", "lapsed")]);
    check("refused", &table(), &[("browse", "offered"), ("order", "ordered"), ("refuse", "refused")]);
}

#[test]
fn the_other_table_has_a_life_of_its_own() {
    let head = [("browse", "quoted"), ("order", "asked"), ("deal", "running")];
    let tail = [("close", "closed"), ("bill", "due"), ("score", "due_rated"), ("pay", "done")];
    let give_up = [("give_up", "winding_up"), ("shut", "cooling")];
    check("to its end", &other(), &[&head[..], &[("expire", "cooling")], &tail].concat());
    check("given up", &other(), &[&head[..], &give_up, &tail].concat());
    check(
        "given up in the last moment",
        &other(),
        &[&head[..], &give_up[..1], &[("expire", "cooling")], &tail].concat(),
    );
    let row = other().rows.into_iter().find(|row| row.writes == [Write::Notice]).unwrap();
    assert_eq!((row.act.as_str(), row.signers.as_slice()), ("give_up", &[Party::Buyer][..]));
    assert!(table().rows.iter().all(|known| known.act != row.act), "a notice that the default table does not know");
}

/// Every state that some acts lead to, the first included.
fn reached<'a>(table: &'a RuleTable, from: &'a str, by: impl Fn(&Row) -> bool) -> Vec<&'a str> {
    let mut found = vec![from];
    let mut index = 0;
    while let Some(state) = found.get(index).copied() {
        for row in table.rows.iter().filter(|row| row.state == state && by(row)) {
            if !found.contains(&row.next.as_str()) {
                found.push(&row.next);
            }
        }
        index += 1;
    }
    found
}

fn states(table: &RuleTable) -> Vec<&str> {
    let mut states: Vec<&str> = table.rows.iter().flat_map(|row| [row.state.as_str(), row.next.as_str()]).collect();
    states.sort_unstable();
    states.dedup();
    states
}

#[test]
fn every_state_is_reached_and_from_every_state_an_end() {
    for (table, ends) in [(table(), &["closed", "lapsed", "refused"][..]), (other(), &["declined", "done", "gone"])] {
        let all = states(&table);
        let mut reachable = reached(&table, &table.start, |_| true);
        reachable.sort_unstable();
        assert_eq!(reachable, all);
        let stops = |state: &&str| !table.rows.iter().any(|row| row.state == *state);
        assert_eq!(all.iter().copied().filter(stops).collect::<Vec<_>>(), ends, "the final states");
        for state in all {
            let after = reached(&table, state, |_| true);
            assert!(after.iter().any(|state| ends.contains(state)), "from {state} nothing ends");
        }
    }
    assert_eq!(states(&table()).len(), 30);
}

#[test]
fn nobody_can_hold_a_contract_for_ever_by_doing_nothing() {
    // Without buyer and platform the node and its timers bring service to an end and to a bill, from every state that holds capacity.
    for (table, billed) in [(table(), "billed"), (other(), "due")] {
        let alone = |row: &Row| row.signers.iter().all(|party| *party == Party::Node) && row.guard == Guard::None;
        for state in &table.holding {
            assert!(reached(&table, state, alone).contains(&billed), "{state} never comes to a bill");
        }
        for state in table.metered.iter() {
            let ended = next(&table, state, EXPIRE, ALL).unwrap().next.to_owned();
            assert!(!table.is_metered(&ended), "{state}");
        }
    }
}

#[test]
fn what_moves_from_a_metered_state_to_one_that_is_not_happens_by_itself() {
    // The last usage record comes before the act: a notice of somebody else cannot wait for it, so none may end the metering.
    for table in [table(), other()] {
        for row in table.rows.iter().filter(|row| table.is_metered(&row.state) && !table.is_metered(&row.next)) {
            assert_eq!(
                (row.signers.as_slice(), row.writes.as_slice()),
                (&[][..], &[Write::OrderStatus][..]),
                "{row:?}"
            );
        }
        for timer in table.timers.iter().filter(|timer| timer.after_s == 0) {
            let row = table.row(&timer.state, &timer.act).unwrap();
            assert!(table.is_metered(&row.state) && !table.is_metered(&row.next), "{row:?}");
        }
    }
}

#[test]
fn on_no_path_a_contract_is_scored_twice_paid_twice_or_refunded_twice() {
    for table in [table(), other()] {
        // Bills by period, and the payments of them, come as often as there are periods; each names its own.
        let many = |row: &&Row| {
            matches!(row.act.as_str(), "bill_period" | "pay_part") || (row.act == "pay" && table.is_holding(&row.state))
        };
        let once = |row: &&Row| !many(row);
        for row in table.rows.iter().filter(once) {
            for write in [Write::Deal, Write::Bill, Write::Score, Write::Payment, Write::RefundPaid] {
                let after = reached(&table, &row.next, |_| true);
                let mut later = table.rows.iter().filter(|other| after.contains(&other.state.as_str()));
                let again = later.find(|other| other.writes.contains(&write));
                assert!(!row.writes.contains(&write) || again.is_none(), "{write:?} after {row:?}: {again:?}");
            }
        }
        for state in states(&table).into_iter().filter(|state| state.ends_with("scored")) {
            assert!(table.row(state, "score").is_none(), "{state}");
        }
    }
}

#[test]
fn a_refused_bill_can_be_corrected_whenever_the_node_hears_of_it() {
    let table = table();
    for row in table.rows.iter().filter(|row| row.act == "pay" && !table.is_holding(&row.state)) {
        // While service runs it waits: the state after the last bill lets it.
        let step = next(&table, &row.state, CONTEST, ALL).unwrap();
        assert!(table.row(step.next, CORRECT).is_some_and(|row| row.writes == [Write::Correction]), "{}", row.state);
    }
}

#[test]
fn scoring_changes_nothing_but_that_it_is_scored() {
    // Each state of money has a twin: what the one allows the other allows, and it leads to the twin.
    let table = table();
    let twin = |state: &str| match state {
        "paid" => "scored".to_owned(),
        "closed" => "closed".to_owned(),
        other => format!("{other}_scored"),
    };
    for row in table.rows.iter().filter(|row| row.act == "score") {
        assert_eq!(row.next, twin(&row.state));
        let acts = |state: &str| -> Vec<Row> {
            let rows = table.rows.iter().filter(|row| row.state == state && row.act != "score");
            let mut rows: Vec<Row> = rows.cloned().map(|row| Row { state: String::new(), ..row }).collect();
            rows.sort_by(|a, b| a.act.cmp(&b.act));
            rows
        };
        let mut want = acts(&row.state);
        want.iter_mut().for_each(|row| row.next = twin(&row.next));
        assert_eq!(acts(&row.next), want, "{} and {}", row.state, row.next);
        let timer = |state: &str| {
            table.timers.iter().find(|timer| timer.state == state).map(|timer| (timer.after_s, timer.act.clone()))
        };
        assert_eq!(timer(&row.state), timer(&row.next), "{}", row.state);
    }
}

#[test]
fn each_row_writes_the_entry_that_its_act_is_read_from() {
    for table in [table(), other()] {
        for row in &table.rows {
            let kinds: Vec<EntryKind> = row.writes.iter().map(|write| write.kind()).collect();
            let want = match row.act.as_str() {
                "browse" => vec![EntryKind::Browse, EntryKind::Offer],
                "order" => vec![EntryKind::Order],
                "deal" => vec![EntryKind::Deal],
                "bill" | "bill_period" => vec![EntryKind::Bill],
                "pay" | "pay_part" => vec![EntryKind::Payment],
                "score" => vec![EntryKind::Score],
                "correct" => vec![EntryKind::Correction],
                "refund" => vec![EntryKind::RefundPaid],
                _ if row.signers == [Party::Buyer] || row.signers == [Party::Platform] => vec![EntryKind::Notice],
                _ => vec![EntryKind::OrderStatus],
            };
            assert_eq!(kinds, want, "{} in {}", row.act, row.state);
        }
    }
}
