use super::*;
use crate::cores::fake::writer;
use crate::cores::source::{Reading, Way};
use crate::cores::state::State;
use std::collections::BTreeMap;

/// Two cores, of which the second has two partitions of table 5.
fn app() -> App {
    let mut app = App::new(Duration::from_secs(2), String::new());
    app.model.tables = BTreeMap::from([(5, "users".to_owned())]);
    let readings = [0, 1].map(|core| {
        let mut writer = writer(1, core);
        if core == 1 {
            writer.take_partition(5, 0);
            writer.take_partition(5, 1);
        }
        writer.publish(1_000_000);
        let reading = Reading {
            node: 1,
            core: core.into(),
            way: Way::Page,
            state: State::Running,
            page: Ok(writer.snapshot()),
        };
        ((1, u32::from(core)), reading)
    });
    app.model.update(readings.into(), Vec::new(), 1_000_000);
    app
}

fn act(app: &mut App, actions: &[Action]) {
    for action in actions {
        assert_eq!(app.update(*action), Next::GoOn);
    }
}

#[test]
fn enter_leads_from_a_table_to_its_partitions_to_one_of_them_and_esc_back() {
    let mut app = app();
    act(&mut app, &[Action::List(1), Action::Open]);
    assert_eq!(app.screen, Screen::Partitions(Some(5)));
    act(&mut app, &[Action::SortPrevious; 3]);
    act(&mut app, &[Action::Last, Action::Open]);
    let partition = 1;
    let table_id = 5;
    assert_eq!(
        app.screen,
        Screen::Partition {
            table_id,
            partition
        }
    );
    assert!(app.wants_hot_keys() && app.list().is_none());
    act(&mut app, &[Action::Back, Action::Back]);
    assert_eq!(app.screen, Screen::Tables);
    act(&mut app, &[Action::Back]);
    assert_eq!(app.screen, Screen::Tables, "nothing to go back to");
}

#[test]
fn the_cursor_stays_within_the_list() {
    let mut app = app();
    act(&mut app, &[Action::Move(-1)]);
    assert_eq!(app.place().line, 0);
    act(&mut app, &[Action::Page(3)]);
    assert_eq!(app.place().line, 1);
    act(&mut app, &[Action::Open]);
    let name = CoreName { node: 1, core: 1 };
    assert_eq!(app.screen, Screen::Core(name));
    act(&mut app, &[Action::Back, Action::First, Action::Open]);
    assert_eq!(app.screen, Screen::Core(CoreName { node: 1, core: 0 }));
}

#[test]
fn a_filter_is_typed_taken_or_given_up() {
    let mut app = app();
    act(
        &mut app,
        &[Action::Filter, Action::Type('x'), Action::Type('y')],
    );
    assert_eq!(app.mode(), Mode::Filter);
    act(&mut app, &[Action::Erase, Action::Accept]);
    assert_eq!((app.filter.as_str(), app.mode()), ("x", Mode::Normal));
    act(&mut app, &[Action::List(1)]);
    assert!(app.list().is_some_and(|list| list.lines.is_empty()));
    act(&mut app, &[Action::Filter, Action::Type('z'), Action::Back]);
    assert_eq!(app.filter, "x");
    act(&mut app, &[Action::AllTables]);
    assert!(app.list().is_some_and(|list| list.lines.len() == 1));
}

#[test]
fn columns_are_sorted_by_in_turn_and_round_the_end() {
    let mut app = app();
    let columns = app.list().map_or(0, |list| list.columns.len());
    act(&mut app, &[Action::SortPrevious]);
    assert_eq!(app.place().sort.column, columns - 1);
    act(&mut app, &[Action::SortNext, Action::Reverse]);
    let sort = app.place().sort;
    assert_eq!((sort.column, sort.is_reversed), (0, true));
    let list = app.list().expect("cores");
    let last = Subject::Core(CoreName { node: 1, core: 1 });
    assert_eq!(list.lines[0].subject, last);
}

#[test]
fn intervals_have_a_shortest_and_a_longest() {
    let mut app = app();
    act(&mut app, &[Action::Faster; 20]);
    assert_eq!(app.interval, Duration::from_millis(500));
    act(&mut app, &[Action::Slower; 20]);
    assert_eq!(app.interval, Duration::from_secs(60));
    act(&mut app, &[Action::Help, Action::Back, Action::Pause]);
    assert!(app.is_paused && !app.is_help);
    assert_eq!(app.update(Action::Quit), Next::Quit);
}
