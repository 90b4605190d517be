//! The web console of a real run in a real browser, with the batches of a real node.

mod batches;
mod links;
mod shop;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use sheaf_coordinator::State;
use sheaf_testkit::{Browser, Scheme, Tab, wait_for, wait_until};

use batches::Batches;
use shop::Shop;

/// What a page must show as it is.
const HOSTILE: &str =
    "</td><img src=x onerror=\"document.title='taken over'\"><b>bold</b>\u{202e}&amp;";
const ROWS: &str = "document.querySelectorAll('#batch-table tbody tr').length";

fn value(browser: &mut Browser, tab: &Tab, expression: &str) -> Value {
    browser.evaluate(tab, expression).unwrap()
}

/// The text of the first element, as somebody reads it.
fn text(browser: &mut Browser, tab: &Tab, selector: &str) -> String {
    let expression = format!("document.querySelector({selector:?})?.textContent ?? ''");
    value(browser, tab, &expression).as_str().unwrap().to_owned()
}

#[test]
fn a_page_shows_live_rates_and_a_failed_batch_is_requeued_by_a_click() {
    let Some(mut browser) = Browser::start().unwrap() else { return };
    let Some(shop) = Shop::open() else { return };
    let batches = Batches::of(&shop.node_address);
    batches.fail(HOSTILE);
    let tab = browser.open(&shop.link(&[]), (1280, 900), Scheme::Light).unwrap();
    sees_the_topology(&mut browser, &tab);
    sees_rates_that_change(&mut browser, &tab);
    let address = value(&mut browser, &tab, "location.href").to_string();
    assert!(address.starts_with(&format!("\"{}/", shop.console)), "{address}");
    assert!(!address.contains("token"), "the token is taken out of the address: {address}");

    // By keyboard to the batches.
    value(&mut browser, &tab, "document.getElementById('tab-overview').focus()");
    browser.press(&tab, "ArrowRight").unwrap();
    browser.press(&tab, "ArrowRight").unwrap();
    browser.wait(&tab, "the failed batches", &format!("{ROWS} === 3")).unwrap();
    let selected = "document.querySelector('[role=tab][aria-selected=true]').textContent";
    browser.wait(&tab, "the tab", &format!("{selected} === 'Batches3'")).unwrap();
    let shown = text(&mut browser, &tab, "#batch-table tbody tr td.wide");
    assert_eq!(shown, format!("malformed_data{HOSTILE}"));
    let markup = value(&mut browser, &tab, "document.querySelectorAll('td img, td b').length");
    assert_eq!(markup, 0, "what comes of others is text");

    browser.click(&tab, "[aria-label='Requeue shop-2']").unwrap();
    batches.wait_for("shop-2", State::Pending);
    browser.wait(&tab, "what became of it", &format!("{ROWS} === 2")).unwrap();
    browser.wait(&tab, "a message", "messages.textContent.includes('shop-2 is pending')").unwrap();
    assert_eq!(batches.state("shop-1"), State::Failed);

    // The others at once; the question is answered by keyboard.
    browser.click(&tab, "#requeue-all").unwrap();
    browser.wait(&tab, "the question", "document.getElementById('ask').open").unwrap();
    browser.press(&tab, "Enter").unwrap();
    for id in ["shop-1", "shop-3"] {
        batches.wait_for(id, State::Pending);
    }
    browser.wait(&tab, "no failed batch", &format!("{ROWS} === 0")).unwrap();
    batches.complete();
    let completed = "document.querySelector('[data-key=completed] b').textContent === '3'";
    browser.wait(&tab, "the completed batches", completed).unwrap();
    assert_eq!(value(&mut browser, &tab, "document.title"), "shop · Sheaf");
    assert_eq!(browser.problems(), <[String; 0]>::default());
}

fn sees_the_topology(browser: &mut Browser, tab: &Tab) {
    browser.wait(tab, "the topology", "document.querySelectorAll('.node').length === 8").unwrap();
    let healthy = "document.querySelectorAll('.node.good').length === 8";
    browser.wait(tab, "healthy components", healthy).unwrap();
    let names = "[...document.querySelectorAll('.node .id')].map(one => one.textContent).sort()";
    let names = value(browser, tab, &format!("{names}.join()"));
    assert_eq!(
        names,
        "alerts,all-orders,fraud-check,large,revenue ×2,store-orders,warehouse,web-orders"
    );
}

/// The figure of one component is another one, again and again, and so are those of edges.
fn sees_rates_that_change(browser: &mut Browser, tab: &Tab) {
    let rates = "JSON.stringify([...document.querySelectorAll('.node .rate, .edge-label text')].map(one => one.textContent))";
    let flows = "document.querySelectorAll('.flow.moving').length >= 3";
    browser.wait(tab, "edges that flow", flows).unwrap();
    for _ in 0..3 {
        let seen = value(browser, tab, rates);
        assert!(seen.to_string().contains("rows/s"), "{seen}");
        let other = format!("{rates} !== {}", serde_json::json!(seen.as_str().unwrap()));
        browser.wait(tab, "other figures", &other).unwrap();
    }
    let drawn = "document.querySelector('.chart .lines path')?.getAttribute('d').length > 20";
    browser.wait(tab, "a line in a chart", drawn).unwrap();
}

#[test]
fn a_page_without_the_token_shows_figures_and_changes_nothing() {
    let Some(mut browser) = Browser::start().unwrap() else { return };
    let Some(shop) = Shop::open() else { return };
    let batches = Batches::of(&shop.node_address);
    batches.fail("no");
    let tab = browser.open(&shop.link(&["--no-token"]), (900, 700), Scheme::Dark).unwrap();
    sees_the_topology(&mut browser, &tab);
    assert_eq!(value(&mut browser, &tab, "document.getElementById('stop').disabled"), true);
    value(&mut browser, &tab, "location.hash = '/batches'");
    browser
        .wait(
            &tab,
            "the reason",
            "document.getElementById('batch-note').textContent.includes('token')",
        )
        .unwrap();
    value(&mut browser, &tab, "location.hash = '/logs'");
    browser
        .wait(
            &tab,
            "the reason",
            "document.getElementById('log-note').textContent.includes('token')",
        )
        .unwrap();
    // A wrong one is refused; the right one opens everything.
    let unlock = |browser: &mut Browser, token: &str| {
        browser.click(&tab, "#unlock").unwrap();
        browser.wait(&tab, "the question", "document.getElementById('ask').open").unwrap();
        let typed = serde_json::json!(token);
        value(browser, &tab, &format!("document.getElementById('ask-token').value = {typed}"));
        browser.press(&tab, "Enter").unwrap();
    };
    unlock(&mut browser, "wrong");
    browser
        .wait(
            &tab,
            "the refusal",
            "document.getElementById('log-note').textContent.includes('not the token')",
        )
        .unwrap();
    browser.click(&tab, "#unlock").unwrap();
    let token = shop.token();
    unlock(&mut browser, &token);
    browser.wait(&tab, "logs", "document.querySelectorAll('#log-lines div').length > 3").unwrap();
    value(&mut browser, &tab, "location.hash = '/batches'");
    browser.wait(&tab, "the batch", &format!("{ROWS} === 3")).unwrap();
    assert_eq!(batches.state("shop-1"), State::Failed);

    // Restart and stop, asked and agreed to.
    value(&mut browser, &tab, "location.hash = '/components'");
    browser
        .wait(
            &tab,
            "the button",
            "!document.querySelector('[data-key=\"shop:large\"] .needs-token').disabled",
        )
        .unwrap();
    let is_there = || Some(shop.address("large")).filter(|address| !address.is_empty());
    let before = wait_for(TIME, "the component", is_there).unwrap();
    browser.click(&tab, "[data-key='shop:large'] .needs-token").unwrap();
    browser.wait(&tab, "the question", "document.getElementById('ask').open").unwrap();
    browser.press(&tab, "Enter").unwrap();
    let restarted = || {
        let now = shop.address("large");
        !now.is_empty() && now != before
    };
    wait_until(TIME, "the restart", restarted).unwrap();
    browser.click(&tab, "#stop").unwrap();
    browser.wait(&tab, "the question", "document.getElementById('ask').open").unwrap();
    browser.press(&tab, "Enter").unwrap();
    shop.wait_for_end();
}

/// Pictures for the README, where they are asked for; else of the first moments, for whoever
/// wants to look at them below the target directory.
#[test]
fn pictures_are_made_of_the_real_page() {
    let Some(mut browser) = Browser::start().unwrap() else { return };
    let folder = wanted_pictures();
    let shop = if folder.is_some() { Shop::busy() } else { Shop::open() };
    let Some(shop) = shop else { return };
    Batches::of(&shop.node_address).fail("no such column");
    let tab = browser.open(&shop.link(&[]), (1280, 860), Scheme::Light).unwrap();
    sees_the_topology(&mut browser, &tab);
    sees_rates_that_change(&mut browser, &tab);
    if folder.is_some() {
        // Charts with something in them.
        let points =
            "document.querySelector('.chart .lines path').getAttribute('d').split('L').length > 55";
        for _ in 0..3 {
            if browser.wait(&tab, "a minute of figures", points).is_ok() {
                break;
            }
        }
    }
    let temporary = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.unwrap_or_else(|| temporary.clone());
    let views = [
        ("light", Scheme::Light, "overview"),
        ("dark", Scheme::Dark, "overview"),
        ("batches", Scheme::Light, "batches"),
        ("components", Scheme::Dark, "components"),
    ];
    for (name, scheme, view) in views {
        browser.set_scheme(&tab, scheme).unwrap();
        browser.click(&tab, &format!("#tab-{view}")).unwrap();
        browser
            .wait(&tab, "the view", &format!("!document.getElementById('{view}').hidden"))
            .unwrap();
        let picture = browser.screenshot(&tab).unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
        assert!((20_000..200_000).contains(&picture.len()), "{name}: {} bytes", picture.len());
        let folder = if view == "overview" { &folder } else { &temporary };
        std::fs::write(folder.join(format!("console-{name}.png")), picture).unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "cargo xtask screenshots says where they go")]
fn wanted_pictures() -> Option<PathBuf> {
    std::env::var_os("SHEAF_SCREENSHOTS").map(Into::into)
}

/// Only bounds how long what is broken hangs.
const TIME: Duration = Duration::from_secs(60);
