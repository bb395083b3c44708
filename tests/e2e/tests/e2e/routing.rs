//! Which rule takes a request, and what its filters do.

use portolan_e2e::{Echo, Portolan, app, cluster};

#[test]
fn a_generated_name_is_served() {
    let echo = Echo::start("a");
    let portolan =
        Portolan::start(&[("fleet.yaml", cluster("paris", "") + &app("paris", "shop", &[echo.address()]))]);
    let reply = portolan.get("shop.paris.lb.test", "/x?y=1").send();
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["target"], "/x?y=1");
    let line = portolan.logged("a line", |line| line["path"] == "/x?y=1");
    assert_eq!(line["status"], 200);
}
