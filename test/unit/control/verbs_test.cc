#include <catch2/catch.hpp>

#include <map>
#include <nlohmann/json.hpp>
#include <sys/socket.h>

#include "control/control.h"

using namespace vmhost;
using nlohmann::json;

namespace {

// Two VMs in memory; what is asked of them is recorded.
class Machines final : public control::Operations {
public:
    Machines() {
        add(1, "a", "running");
        add(2, "b", "stopped");
    }
    std::vector<control::VmRow> list() override { return rows; }
    void count(std::function<void()> done) override {
        calls.push_back("count");
        done();
    }
    Result<control::VmRow> find(std::string_view vm) override {
        for (const auto& row : rows)
            if (row.name == vm || std::to_string(row.id) == vm)
                return row;
        return fail(ErrorKind::not_found, "vm {} not found", vm);
    }
    bool may_control(const control::Caller& caller, std::string_view vm) override {
        return caller.uid == 0 || caller.uid == 1000 ||
               (caller.uid == 1001 && vm == only_of_1001) || (caller.uid == 1002 && vm == "b");
    }
    bool may_change_host(const control::Caller& caller) override { return caller.uid == 0; }
    Result<std::string> net() override { return R"([{"switch":"lan","ports":[]}])"; }
    Result<control::PlanRows> plan(const std::string& file) override {
        calls.push_back("plan " + file);
        if (file == "/bad.toml")
            return fail(ErrorKind::invalid, "bad.toml:3: no");
        return control::PlanRows{
            {{"vm a", "vm.a.memory", "changed", "1", "2", "restart", {}}}, "d1", {}};
    }
    void apply(control::ApplyOrder order) override {
        calls.push_back(
            fmt::format("apply {} {} {}", order.file, order.digest, order.restart_guests));
        order.told("vm a: ended");
        order.done(start_result);
    }
    Result<control::InstallRow> reinstall(std::string_view vm, bool upgrade) override {
        calls.push_back(fmt::format("reinstall {} {}", vm, upgrade));
        if (vm == "b")
            return fail(ErrorKind::invalid, "vm b has no install table");
        return control::InstallRow{3, upgrade, 1000, {}};
    }
    void upgrade(std::function<void(Result<void>)> done) override {
        calls.push_back("upgrade");
        done(start_result);
    }
    void start(std::string_view vm, control::StartOnce once,
               std::function<void(Result<void>)> done) override {
        calls.push_back("start " + std::string(vm));
        started = std::move(once);
        done(start_result);
    }
    void start_new(const control::Caller& caller, control::NewVm wish,
                   std::function<void(Result<std::uint32_t>)> done) override {
        calls.push_back(fmt::format("new {} of {} by {}", wish.name, wish.parent, caller.uid));
        if (caller.uid != 0 && wish.parent.empty())
            return done(fail(ErrorKind::denied, "only root"));
        made = std::move(wish);
        done(7U);
    }
    void set_memory(std::string_view vm, std::uint64_t bytes,
                    std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("memory {} {}", vm, bytes));
        done(start_result);
    }
    void change_medium(std::string_view vm, std::optional<Fd> medium, bool force,
                       std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("cdrom {} {} {}", vm, medium ? "file" : "eject", force));
        done(start_result);
    }
    Result<void> stop(std::string_view vm, bool force, std::function<void()> ended) override {
        calls.push_back(fmt::format("stop {} {}", vm, force));
        on_end = ended;
        ends[std::string(vm)] = std::move(ended);
        return stop_result;
    }
    void pause(std::string_view vm, std::function<void(Result<void>)> done) override {
        calls.push_back("pause " + std::string(vm));
        done(find(vm)->state == "running" ? Result<void>{}
                                          : fail(ErrorKind::invalid, "vm {} is not running", vm));
    }
    Result<void> unpause(std::string_view vm) override {
        calls.push_back("unpause " + std::string(vm));
        return {};
    }
    void send(std::string_view vm, Fd out, std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("send {} {}", vm, static_cast<bool>(out)));
        done({});
    }
    void receive(std::string_view vm, Fd state, std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("receive {} {}", vm, static_cast<bool>(state)));
        done(fail(ErrorKind::corrupt, "vm {}: the state is cut short", vm));
    }
    void make_snapshot(std::string_view vm, const std::string& name,
                       std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("make {} of {}", name, vm));
        done(name == "full" ? fail_errno(ENOSPC, "vm {}: write", vm) : Result<void>());
    }
    Result<std::vector<control::SnapshotRow>> snapshots(std::string_view vm) override {
        calls.push_back(fmt::format("list {}", vm));
        return std::vector<control::SnapshotRow>{{"one", 1'700'000'000, 4096}};
    }
    Result<void> remove_snapshot(std::string_view vm, const std::string& name) override {
        calls.push_back(fmt::format("remove {} of {}", name, vm));
        return {};
    }
    Result<void> wait(std::string_view vm, std::function<void()> ended) override {
        if (find(vm)->state != "running" && find(vm)->state != "stopping")
            return fail(ErrorKind::invalid, "vm {} is not running", vm);
        calls.push_back("wait " + std::string(vm));
        on_end = ended;
        ends[std::string(vm)] = std::move(ended);
        return {};
    }
    void metrics(std::function<void(Samples)> done) override {
        calls.push_back("metrics");
        done(samples);
    }
    Result<Fd> console(std::string_view, bool want_writer, bool virtio) override {
        calls.push_back(fmt::format("console {} {}", virtio ? "virtio" : "serial",
                                    want_writer ? "writer" : "reader"));
        return std::move(socket_pair(SOCK_STREAM)->first);
    }
    Result<control::ConsoleFiles> console_log(std::string_view vm, bool virtio) override {
        calls.push_back(fmt::format("log of {} {}", vm, virtio ? "virtio" : "serial"));
        control::ConsoleFiles found{.kept = true, .files = {}};
        found.files.push_back(std::move(socket_pair(SOCK_STREAM)->first));
        found.files.push_back(std::move(socket_pair(SOCK_STREAM)->first));
        return found;
    }
    Result<Traced> trace(std::string_view vm, std::size_t interface) override {
        calls.push_back(fmt::format("trace {} {}", vm, interface));
        if (interface > 0)
            return fail(ErrorKind::not_found, "no such interface");
        return Traced{"a-if0", std::move(socket_pair(SOCK_STREAM)->first)};
    }
    std::vector<control::EventRow> events() override { return kept; }
    Result<void> follow_events(std::function<bool(const control::EventRow&)> take,
                               std::function<bool()>) override {
        follower = std::move(take);
        return {};
    }
    void leases(std::function<void(Result<std::vector<control::LeaseRow>>)> done) override {
        control::LeaseRow guest, client;
        guest.vm = "a";
        guest.address = "10.0.0.11";
        guest.state = "bound";
        client.address = "10.0.0.100";
        client.until_s = 5;
        done(std::vector{guest, client});
    }
    void release_lease(Ipv4 address, std::function<void(Result<void>)> done) override {
        calls.push_back("release " + address.text());
        done(start_result);
    }
    void log_verbosely(bool verbose) override { calls.push_back(verbose ? "verbose" : "brief"); }
    void reset(bool switches, bool vms, std::function<void(Result<void>)> done) override {
        calls.push_back(fmt::format("reset{}{}", switches ? " switches" : "", vms ? " vms" : ""));
        done(start_result);
    }
    void add(std::uint32_t id, const char* name, const char* state) {
        control::VmRow row;
        row.id = id;
        row.name = name;
        row.state = state;
        row.owner = "alice";
        rows.push_back(row);
    }
    std::vector<control::VmRow> rows;
    std::string only_of_1001;
    Samples samples = std::make_shared<const metrics::Samples>();
    std::vector<control::EventRow> kept;
    std::function<bool(const control::EventRow&)> follower;
    std::map<std::string, std::function<void()>> ends; // of stop and wait
    Result<void> stop_result;
    std::vector<std::string> calls;
    std::function<void()> on_end;
    Result<void> start_result;
    control::StartOnce started;
    control::NewVm made;
};

struct Asked {
    Machines machines;
    control::Verbs verbs{machines};
    std::vector<control::Reply> replies;
    bool active = true; // the client is there

    json ask(const std::string& text, std::uint32_t uid = 0, std::vector<Fd> fds = {}) {
        verbs.handle(
            {uid, uid}, text, std::move(fds),
            [this](control::Reply reply) { replies.push_back(std::move(reply)); },
            [this] { return active; });
        return json::parse(replies.back().json);
    }
};

} // namespace

TEST_CASE("status lists every VM to everybody") {
    Asked asked;
    auto reply = asked.ask(R"({"verb":"status"})", 4711);
    CHECK(reply["ok"] == true);
    CHECK(reply["vms"].size() == 2);
    CHECK(reply["vms"][0]["name"] == "a");
    CHECK(reply["vms"][0]["pid"].is_null());
    CHECK(asked.ask(R"({"verb":"status","vm":"nobody"})")["vms"].empty());
}

TEST_CASE("a broken request is refused, whatever it is") {
    Asked asked;
    for (auto bad : {"", "[]", "{", "null", R"({"verb":1})", R"({"verb":"status","x":1})",
                     R"({"verb":"fly","vm":"a"})", R"({"verb":"stop","vm":"a","force":"yes"})",
                     R"({"verb":"start","vm":["a"]})", "\xff"}) {
        INFO(bad);
        auto reply = asked.ask(bad);
        CHECK(reply["ok"] == false);
        CHECK(reply["kind"] == "invalid");
        CHECK(asked.replies.back().last);
    }
    CHECK(asked.machines.calls.empty());
}

TEST_CASE("only the owner and root give orders") {
    Asked asked;
    for (auto verb : {"start", "stop", "pause", "unpause", "wait", "console", "cdrom", "snapshot",
                      "send", "receive", "memory"}) {
        auto reply = asked.ask(fmt::format(R"({{"verb":"{}","vm":"a"}})", verb), 4711);
        CHECK(reply["kind"] == "denied");
    }
    CHECK(asked.machines.calls.empty());
    CHECK(asked.ask(R"({"verb":"start","vm":"a"})", 1000)["ok"] == true);
}

TEST_CASE("stop says requested, and with wait terminated later") {
    Asked asked;
    auto reply = asked.ask(R"({"verb":"stop","vm":"1","force":true})");
    CHECK(reply["event"] == "requested");
    CHECK(asked.replies.back().last);
    CHECK(asked.machines.calls.back() == "stop a true");

    reply = asked.ask(R"({"verb":"stop","vm":"a","wait":true})");
    CHECK(reply["event"] == "requested");
    CHECK_FALSE(asked.replies.back().last);
    asked.machines.on_end();
    CHECK(json::parse(asked.replies.back().json)["event"] == "terminated");
    CHECK(asked.replies.back().last);
}

TEST_CASE("a suspended VM is started by root alone") {
    Asked asked;
    asked.machines.rows[0].suspended = true;
    CHECK(asked.ask(R"({"verb":"status","vm":"a"})", 1000)["vms"][0]["suspended"] == true);
    for (std::string verb : {"start", "unpause", "receive"}) {
        auto refused = asked.ask(R"({"vm":"a","verb":")" + verb + "\"}", 1000);
        CHECK(refused["kind"] == "denied");
        CHECK(refused["error"] == "vm a: it is suspended: " + verb + " is for root");
    }
    CHECK(asked.machines.calls.empty());
    CHECK(asked.ask(R"({"verb":"start","vm":"a"})", 0)["ok"] == true);
    // Of another owner's as before, and what ends it is the owner's.
    CHECK(asked.ask(R"({"verb":"start","vm":"a"})", 4711)["error"].get<std::string>().find(
              "suspended") == std::string::npos);
    CHECK(asked.ask(R"({"verb":"stop","vm":"a"})", 1000)["ok"] == true);
    CHECK(asked.ask(R"({"verb":"start","vm":"b"})", 1002)["ok"] == true);
}

TEST_CASE("reinstall arms, for the owner and root, and says what it has armed") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"reinstall","vm":"a"})", 4711)["ok"] == false);
    CHECK(asked.machines.calls.empty());
    auto reply = asked.ask(R"({"verb":"reinstall","vm":"a","upgrade":true})", 1000);
    CHECK(reply["install"]["number"] == 3);
    CHECK(reply["install"]["mode"] == "upgrade");
    CHECK(reply["install"]["state"] == "armed");
    CHECK(reply["install"]["sealed_s"].is_null());
    CHECK(reply["install"]["phase"].is_null());
    CHECK(asked.ask(R"({"verb":"reinstall","vm":"1"})")["install"]["mode"] == "install");
    CHECK(asked.machines.calls ==
          std::vector<std::string>{"reinstall a true", "reinstall a false"});
    CHECK(asked.ask(R"({"verb":"reinstall","vm":"b"})")["ok"] == false);
    control::InstallRow row{3, false, 1000, 2000};
    row.phases = {{"armed", 1000}, {"sets", 2100}};
    row.percent = 40;
    asked.machines.rows[0].install = row;
    auto rows = asked.ask(R"({"verb":"status"})")["vms"];
    CHECK(rows[0]["answer_served"] == true);
    CHECK(rows[0]["install"]["state"] == "sealed");
    CHECK(rows[0]["install"]["sealed_s"] == 2000);
    CHECK(rows[0]["install"]["phase"] == "sets");
    CHECK(rows[0]["install"]["phases"][0] == json{{"phase", "armed"}, {"since_s", 1000}});
    CHECK(rows[0]["install"]["percent"] == 40);
    CHECK(rows[1]["answer_served"] == false);
    CHECK(rows[1]["install"].is_null());
}

TEST_CASE("pause and unpause answer with the number, and refusals come through") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"pause","vm":"a"})")["id"] == 1);
    CHECK(asked.ask(R"({"verb":"unpause","vm":"1"})")["id"] == 1);
    CHECK(asked.machines.calls == std::vector<std::string>{"pause a", "unpause a"});
    CHECK(asked.ask(R"({"verb":"pause","vm":"b"})")["kind"] == "invalid");
}

TEST_CASE("errors of a VM reach the client with their kind") {
    Asked asked;
    asked.machines.start_result = fail(ErrorKind::busy, "image x is in use");
    auto reply = asked.ask(R"({"verb":"start","vm":"b"})");
    CHECK(reply["kind"] == "busy");
    CHECK(reply["error"] == "image x is in use");
    CHECK(asked.ask(R"({"verb":"wait","vm":"b"})")["kind"] == "invalid");
    CHECK(asked.ask(R"({"verb":"start","vm":"zz"})")["kind"] == "not_found");
}

TEST_CASE("console hands out a socket") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"console","vm":"a","read_only":true})")["ok"] == true);
    CHECK(asked.replies.back().fd.has_value());
    CHECK(asked.machines.calls.back() == "console serial reader");
    CHECK(asked.ask(R"({"verb":"console","vm":"a","port":"virtio"})")["ok"] == true);
    CHECK(asked.machines.calls.back() == "console virtio writer");
    CHECK(asked.ask(R"({"verb":"console","vm":"a","port":"parallel"})")["kind"] == "invalid");
}

TEST_CASE("snapshots are listed, made, removed and gone back to") {
    Asked asked;
    auto list = asked.ask(R"({"verb":"snapshot","vm":"a"})");
    CHECK(list["snapshots"][0]["name"] == "one");
    CHECK(list["snapshots"][0]["time"] == 1'700'000'000);
    CHECK(list["snapshots"][0]["state_bytes"] == 4096);
    CHECK(asked.ask(R"({"verb":"snapshot","vm":"a","snapshot":"two"})")["ok"] == true);
    CHECK(asked.machines.calls.back() == "make two of a");
    CHECK(asked.ask(R"({"verb":"snapshot","vm":"a","snapshot":"full"})")["kind"] == "limit");
    auto before = asked.machines.calls.size();
    CHECK(asked.ask(R"({"verb":"snapshot","vm":"a","snapshot":"../x"})")["kind"] == "invalid");
    CHECK(asked.machines.calls.size() == before);
    CHECK(asked.ask(R"({"verb":"snapshot","vm":"a","snapshot":"two","remove":true})")["ok"] ==
          true);
    CHECK(asked.machines.calls.back() == "remove two of a");
    CHECK(asked.ask(R"({"verb":"start","vm":"b","snapshot":"two"})")["ok"] == true);
    CHECK(asked.machines.started.snapshot == "two");
}

TEST_CASE("a start for once carries its device and its files") {
    Asked asked;
    auto files = [](std::size_t count) {
        std::vector<Fd> fds;
        for (std::size_t i = 0; i < count; ++i)
            fds.push_back(std::move(socket_pair(SOCK_STREAM)->first));
        return fds;
    };
    auto both = files(2);
    int kernel = both[1].get(), cdrom = both[0].get();
    auto reply = asked.ask(R"({"verb":"start","vm":"b","boot_device":"cdrom","kernel_name":"bsd.rd",
                               "descriptors":["cdrom","kernel"]})",
                           0, std::move(both));
    CHECK(reply["ok"] == true);
    const auto& once = asked.machines.started;
    CHECK(once.boot_device == "cdrom");
    CHECK(once.kernel_name == "bsd.rd");
    REQUIRE(once.kernel);
    CHECK(once.kernel->get() == kernel);
    REQUIRE(once.cdrom);
    CHECK(once.cdrom->get() == cdrom);
    asked.ask(R"({"verb":"cdrom","vm":"a","force":true,"descriptors":["cdrom"]})", 0, files(1));
    CHECK(asked.machines.calls.back() == "cdrom a file true");
    asked.ask(R"({"verb":"cdrom","vm":"a"})");
    CHECK(asked.machines.calls.back() == "cdrom a eject false");

    auto calls = asked.machines.calls.size();
    struct Bad {
        const char* text;
        std::size_t fds;
    };
    for (const auto& [text, count] : {
             Bad{R"({"verb":"start","vm":"b"})", 1},
             Bad{R"({"verb":"start","vm":"b","descriptors":["kernel"]})", 0},
             Bad{R"({"verb":"start","vm":"b","descriptors":["kernel","kernel"]})", 2},
             Bad{R"({"verb":"start","vm":"b","descriptors":["disk"]})", 1},
             Bad{R"({"verb":"start","vm":"b","descriptors":[7]})", 1},
             Bad{R"({"verb":"cdrom","vm":"b","descriptors":["kernel"]})", 1},
             Bad{R"({"verb":"stop","vm":"b","descriptors":["cdrom"]})", 1},
             Bad{R"({"verb":"start","vm":"b","boot_device":"floppy"})", 0},
         }) {
        INFO(text);
        CHECK(asked.ask(text, 0, files(count))["kind"] == "invalid");
    }
    CHECK(asked.machines.calls.size() == calls);
}

TEST_CASE("send and receive take one descriptor, named state") {
    Asked asked;
    auto files = [](std::size_t count) {
        std::vector<Fd> fds;
        for (std::size_t i = 0; i < count; ++i)
            fds.push_back(std::move(socket_pair(SOCK_STREAM)->first));
        return fds;
    };
    auto reply = asked.ask(R"({"verb":"send","vm":"1","descriptors":["state"]})", 0, files(1));
    CHECK(reply["ok"] == true);
    CHECK(reply["id"] == 1);
    CHECK(asked.machines.calls == std::vector<std::string>{"send a true"});
    reply = asked.ask(R"({"verb":"receive","vm":"b","descriptors":["state"]})", 0, files(1));
    CHECK(reply["kind"] == "corrupt");
    CHECK(asked.machines.calls.back() == "receive b true");
    asked.machines.calls.clear();
    struct Wrong {
        const char* text;
        std::size_t descriptors;
    };
    for (auto wrong : {Wrong{R"({"verb":"send","vm":"a"})", 0},
                       {R"({"verb":"send","vm":"a"})", 1},
                       {R"({"verb":"send","vm":"a","descriptors":["state"]})", 0},
                       {R"({"verb":"send","vm":"a","descriptors":["state","state"]})", 2},
                       {R"({"verb":"send","vm":"a","descriptors":["disk"]})", 1},
                       {R"({"verb":"send","vm":"a","descriptors":[1]})", 1},
                       {R"({"verb":"status","descriptors":["state"]})", 1},
                       {R"({"verb":"stop","vm":"a","descriptors":["state"]})", 1}}) {
        INFO(wrong.text);
        CHECK(asked.ask(wrong.text, 0, files(wrong.descriptors))["kind"] == "invalid");
    }
    CHECK(asked.machines.calls.empty());
}

TEST_CASE("a memory target is a number of bytes") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"memory","vm":"a","bytes":268435456})")["ok"] == true);
    CHECK(asked.machines.calls.back() == "memory a 268435456");
    for (auto bad : {R"({"verb":"memory","vm":"a","bytes":-1})",
                     R"({"verb":"memory","vm":"a","bytes":"256M"})",
                     R"({"verb":"memory","vm":"a","bytes":1.5})"})
        CHECK(asked.ask(bad)["kind"] == "invalid");
    CHECK(asked.machines.calls.size() == 1);
}

TEST_CASE("a start of a new VM carries what it is made of") {
    Asked asked;
    auto files = [](std::size_t count) {
        std::vector<Fd> fds;
        for (std::size_t i = 0; i < count; ++i)
            fds.push_back(std::move(socket_pair(SOCK_STREAM)->first));
        return fds;
    };
    auto fds = files(4);
    const int base = fds[0].get(), disk = fds[1].get(), kernel = fds[2].get(), cdrom = fds[3].get();
    auto reply = asked.ask(
        R"({"verb":"start","vm":"i","boot_device":"net","kernel_name":"bsd","new":{
            "template":"t","memory_bytes":1048576,"interfaces_min":3,
            "disks":[{"path":"/d","format":"qcow2","bases":["/b"]}],
            "interfaces":[{"switch":"lan"},{"local":true},{}]},
            "descriptors":["disk0-base0","disk0","kernel","cdrom"]})",
        1000, std::move(fds));
    CHECK(reply["id"] == 7);
    CHECK(asked.machines.calls.back() == "new i of t by 1000");
    const auto& made = asked.machines.made;
    CHECK(made.memory_bytes == 1048576);
    CHECK(made.interfaces_min == 3);
    CHECK(made.boot_device == "net");
    CHECK(made.kernel_name == "bsd");
    REQUIRE(made.disks.size() == 1);
    CHECK(made.disks[0].path == "/d");
    CHECK(made.disks[0].format == "qcow2");
    CHECK(made.disks[0].image.get() == disk);
    REQUIRE(made.disks[0].bases.size() == 1);
    CHECK(made.disks[0].bases[0].path == "/b");
    CHECK(made.disks[0].bases[0].file.get() == base);
    CHECK(made.kernel->get() == kernel);
    CHECK(made.cdrom->get() == cdrom);
    REQUIRE(made.interfaces.size() == 3);
    CHECK(made.interfaces[0].switch_name == "lan");
    CHECK(made.interfaces[1].local);

    // The name is not one of a VM that is there: who may is for the operations to say.
    CHECK(asked.ask(R"({"verb":"start","vm":"x","new":{}})", 1000)["kind"] == "denied");

    auto calls = asked.machines.calls.size();
    struct Bad {
        const char* text;
        std::size_t fds;
    };
    for (const auto& [text, count] : {
             Bad{R"({"verb":"stop","vm":"a","new":{}})", 0},
             Bad{R"({"verb":"start","vm":"i","new":[]})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"x":1}})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"memory_bytes":-1}})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"interfaces_min":99}})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"disks":[{"path":"/d"}]}})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"disks":[{}]},"descriptors":["disk0"]})", 1},
             Bad{R"({"verb":"start","vm":"i","new":{"disks":[7]},"descriptors":["disk0"]})", 1},
             Bad{R"({"verb":"start","vm":"i","new":{},"descriptors":["disk0"]})", 1},
             Bad{R"({"verb":"start","vm":"i","new":{},"descriptors":["kernel","kernel"]})", 2},
             Bad{R"({"verb":"start","vm":"i","new":{},"descriptors":["kernel"]})", 0},
             Bad{R"({"verb":"start","vm":"i","new":{"interfaces":[{"switch":1}]}})", 0},
         }) {
        INFO(text);
        CHECK(asked.ask(text, 0, files(count))["kind"] == "invalid");
    }
    CHECK(asked.machines.calls.size() == calls);
}

TEST_CASE("plan and apply are for who may change the host") {
    Machines machines;
    control::Verbs verbs(machines);
    auto ask = [&](std::uint32_t uid, const char* request) {
        std::vector<json> replies;
        verbs.handle({uid, uid}, request, {}, [&](control::Reply reply) {
            replies.push_back(json::parse(reply.json));
            CHECK(reply.last == (replies.back().value("event", "") != "step"));
        });
        return replies;
    };
    CHECK(ask(1000, R"({"verb":"plan"})")[0]["kind"] == "denied");
    CHECK(ask(1000, R"({"verb":"apply"})")[0]["kind"] == "denied");
    CHECK(ask(1000, R"({"verb":"upgrade"})")[0]["kind"] == "denied");
    CHECK(ask(1000, R"({"verb":"net"})")[0]["kind"] == "denied"); // addresses of everybody's guests
    CHECK(ask(0, R"({"verb":"net"})")[0]["switches"][0]["switch"] == "lan");
    CHECK(machines.calls.empty());
    CHECK(ask(0, R"({"verb":"upgrade"})")[0]["event"] == "upgrading");
    CHECK(machines.calls.back() == "upgrade");
    auto plan = ask(0, R"({"verb":"plan","file":"/x.toml"})")[0];
    CHECK(plan["changes"][0]["effect"] == "restart");
    CHECK(plan["digest"] == "d1");
    CHECK(ask(0, R"({"verb":"plan","file":"/bad.toml"})")[0]["error"] == "bad.toml:3: no");
    auto applied = ask(0, R"({"verb":"apply","file":"/x.toml","digest":"d1","restart":false})");
    REQUIRE(applied.size() == 2);
    CHECK(applied[0]["text"] == "vm a: ended");
    CHECK(applied[1]["event"] == "applied");
    CHECK(machines.calls.back() == "apply /x.toml d1 false");
}

TEST_CASE("metrics are root's, and of an owner's VMs his") {
    using metrics::Metric;
    Machines machines;
    metrics::Samples samples;
    samples.add(Metric::plans_total, 3);
    samples.add(Metric::role_up, {"dhcp"}, 1);
    for (auto vm : {"a", "b"})
        samples.add(Metric::vm_exits_total, {vm, "port"}, 7);
    samples.add(Metric::vm_cpu_seconds_total, {"a"}, 0.5);
    machines.samples = std::make_shared<const metrics::Samples>(samples);
    machines.only_of_1001 = "b";
    control::Verbs verbs(machines);
    auto ask = [&](std::uint32_t uid, const char* request) {
        auto families = nlohmann::ordered_json::array();
        bool last = false;
        verbs.handle({uid, uid}, request, {}, [&](control::Reply reply) {
            CHECK_FALSE(last);
            last = reply.last;
            auto part = nlohmann::ordered_json::parse(reply.json);
            if (!part["ok"])
                families = part;
            for (auto& family : part["metrics"])
                families.push_back(family);
        });
        CHECK(last);
        return families;
    };
    auto all = ask(0, R"({"verb":"metrics"})");
    REQUIRE(all.size() == 4);
    CHECK(all[0]["name"] == "vmhost_plans_total");
    CHECK(all[0]["type"] == "counter");
    CHECK(all[0]["samples"].dump() == R"([{"labels":{},"value":3}])");
    CHECK(all[2]["samples"].dump() == R"([{"labels":{"vm":"a"},"value":0.5}])");
    CHECK(all[3]["samples"].dump() == R"([{"labels":{"vm":"a","kind":"port"},"value":7},)"
                                      R"({"labels":{"vm":"b","kind":"port"},"value":7}])");
    auto of_b = ask(1001, R"({"verb":"metrics"})");
    REQUIRE(of_b.size() == 1);
    CHECK(of_b[0]["samples"].dump() == R"([{"labels":{"vm":"b","kind":"port"},"value":7}])");
    CHECK(ask(4711, R"({"verb":"metrics"})").empty());
    CHECK(ask(0, R"({"verb":"metrics","vm":"2"})") == of_b);
    CHECK(ask(1001, R"({"verb":"metrics","vm":"a"})")["kind"] == "denied");
    CHECK(ask(0, R"({"verb":"metrics","vm":"x"})")["kind"] == "not_found");
}

TEST_CASE("metrics of thousands of VMs come in parts") {
    Machines machines;
    metrics::Samples samples;
    const auto most = limits::metrics_part_samples;
    for (std::size_t i = 0; i < 2 * most + 1; ++i)
        samples.add(metrics::Metric::vm_up, {fmt::format("v{}", i)}, 1);
    machines.samples = std::make_shared<const metrics::Samples>(samples);
    control::Verbs verbs(machines);
    std::vector<std::size_t> counts;
    verbs.handle({0, 0}, R"({"verb":"metrics"})", {}, [&](control::Reply reply) {
        CHECK(reply.json.size() < limits::max_frame_bytes);
        auto part = json::parse(reply.json);
        CHECK(reply.last == (part["event"] == "end"));
        if (!reply.last)
            counts.push_back(part["metrics"][0]["samples"].size());
    });
    CHECK(counts == std::vector<std::size_t>{most, most, 1});
}

namespace {

struct Kept final : control::Records {
    std::string user_name(std::uint32_t uid) override { return std::to_string(uid); }
    std::int64_t audit_began(const store::AuditRow& row) override {
        rows.push_back(fmt::format("{} {} ({})", row.verb, row.vm, row.arguments));
        return static_cast<std::int64_t>(rows.size());
    }
    void audit_ended(std::int64_t number, std::string_view outcome) override {
        rows.at(static_cast<std::size_t>(number - 1)) += fmt::format(": {}", outcome);
    }
    Result<std::string> explain(std::string_view vm) override {
        return fmt::format(R"([{{"what":"vm","value":"{}"}}])", vm);
    }
    Result<void> forget(const std::string& vm) override {
        if (vm == "a")
            return fail(ErrorKind::busy, "vm a is there");
        forgotten.push_back(vm);
        return {};
    }
    std::vector<std::string> rows, forgotten;
};

} // namespace

TEST_CASE("what is asked for is kept with its arguments, and what only looks is not") {
    Asked asked;
    Kept kept;
    asked.verbs.use(kept);
    asked.ask(R"({"verb":"stop","vm":"1","force":true})");
    asked.ask(R"({"verb":"memory","vm":"a","bytes":4096})");
    asked.ask(R"({"verb":"apply","file":"/a.toml","digest":"d1","restart":false})");
    asked.ask(R"({"verb":"snapshot","vm":"a","snapshot":"one","remove":true})");
    asked.ask(R"({"verb":"console","vm":"a","port":"virtio"})");
    asked.ask(R"({"verb":"start","vm":"new","new":{"template":"t"}})");
    asked.ask(R"({"verb":"stop","vm":"nobody"})");
    CHECK(kept.rows == std::vector<std::string>{"stop 1 (force): ok", "memory a (bytes=4096): ok",
                                                "apply  (file=/a.toml plan=d1 keep-guests): ok",
                                                "snapshot a (remove snapshot=one): ok",
                                                "console a (port=virtio): ok",
                                                "start new (new=t): ok",
                                                "stop nobody (): not_found: vm nobody not found"});
    kept.rows.clear();
    asked.ask(R"({"verb":"status"})");
    asked.ask(R"({"verb":"snapshot","vm":"a"})");
    asked.ask(R"({"verb":"console","vm":"a","read_only":true})");
    asked.ask(R"({"verb":"plan"})");
    asked.ask(R"({"verb":"fly","vm":"a"})");
    CHECK(kept.rows.empty());
    asked.ask(R"({"verb":"plan"})", 4711);
    asked.ask(R"({"verb":"wait","vm":"a"})", 4711);
    CHECK(kept.rows == std::vector<std::string>{"plan  (): denied", "wait a (): denied"});
    CHECK(asked.verbs.refusals().total == 2);
}

TEST_CASE("explain is for the owner, forget and refusals for root") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"explain","vm":"a"})")["kind"] == "unsupported");
    Kept kept;
    asked.verbs.use(kept);
    CHECK(asked.ask(R"({"verb":"explain","vm":"1"})", 1000)["facts"][0]["value"] == "a");
    CHECK(asked.ask(R"({"verb":"explain","vm":"a"})", 4711)["kind"] == "denied");
    CHECK(asked.ask(R"({"verb":"explain","vm":"nobody"})")["kind"] == "not_found");
    CHECK(asked.ask(R"({"verb":"forget","vm":"b"})", 1000)["kind"] == "denied");
    CHECK(asked.ask(R"({"verb":"refusals"})", 1000)["kind"] == "denied");
    CHECK(kept.forgotten.empty());
    CHECK(asked.ask(R"({"verb":"forget","vm":"gone"})")["ok"] == true);
    CHECK(kept.forgotten == std::vector<std::string>{"gone"});
    CHECK(asked.ask(R"({"verb":"forget","vm":"a"})")["kind"] == "busy");
    CHECK(asked.ask(R"({"verb":"forget","vm":"../a"})")["kind"] == "invalid");
    auto refusals = asked.ask(R"({"verb":"refusals"})")["refusals"];
    CHECK(refusals["total"] == 3);
    CHECK(refusals["by_uid"]["1000"] == 2);
    CHECK(refusals["by_verb"]["explain"] == 1);
}

// The verbs about more than one VM: events, stop of all, log, reset; files of a console log.

namespace {

constexpr std::uint32_t owner_of_all = 1000, owner_of_b = 1002, stranger = 4711;

json reply_at(const Asked& asked, std::size_t index) {
    return json::parse(asked.replies.at(index).json);
}

} // namespace

TEST_CASE("root sees every event, an owner those of his VMs, a stranger none") {
    Asked asked;
    asked.machines.kept = {{1, 10, "", 0, "up", ""},
                           {2, 20, "a", 1, "started", "id 1"},
                           {3, 30, "b", 2, "started", "id 2"},
                           {4, 40, "gone", 9, "stopped", ""},
                           {5, 50, "b", 7, "crashed", "another VM of that name"}};
    CHECK(asked.ask(R"({"verb":"events"})")["events"].size() == 5);
    auto of_b = asked.ask(R"({"verb":"events"})", owner_of_b)["events"];
    REQUIRE(of_b.size() == 1);
    CHECK(of_b[0] == json{{"number", 3},
                          {"id", 2},
                          {"time_us", 30},
                          {"vm", "b"},
                          {"kind", "started"},
                          {"text", "id 2"}});
    CHECK(asked.ask(R"({"verb":"events"})", stranger)["events"].empty());
    CHECK(asked.ask(R"({"verb":"events","vm":"a"})")["events"].size() == 1);
    CHECK(asked.ask(R"({"verb":"events","vm":"1"})")["events"].size() == 1);
    CHECK(asked.ask(R"({"verb":"events","vm":"a"})", owner_of_b)["kind"] == "denied");
    // One that is not there any more: what was its is root's to know.
    CHECK(asked.ask(R"({"verb":"events","vm":"gone"})")["events"].size() == 1);
    CHECK(asked.ask(R"({"verb":"events","vm":"gone"})", owner_of_b)["kind"] == "not_found");
    CHECK_FALSE(asked.machines.follower);
}

TEST_CASE("who follows gets what was kept, then each event, until he is gone") {
    Asked asked;
    asked.machines.kept = {{1, 10, "b", 2, "started", "id 2"}};
    asked.ask(R"({"verb":"events","follow":true})", owner_of_b);
    REQUIRE(asked.replies.size() == 1);
    CHECK_FALSE(asked.replies[0].last);
    CHECK(asked.machines.follower({2, 20, "a", 1, "paused", ""})); // not his: not told
    CHECK(asked.machines.follower({3, 30, "b", 2, "paused", ""}));
    REQUIRE(asked.replies.size() == 2);
    CHECK_FALSE(asked.replies[1].last);
    CHECK(reply_at(asked, 1)["events"][0]["number"] == 3);
    asked.active = false;
    CHECK_FALSE(asked.machines.follower({4, 40, "b", 2, "unpaused", ""}));
    CHECK(asked.replies.size() == 2);
}

TEST_CASE("stop of all asks every VM before it waits for any") {
    Asked asked;
    asked.machines.rows[1].state = "waiting";
    asked.machines.add(3, "c", "stopped");
    asked.ask(R"({"verb":"stop","all":true,"wait":true})");
    CHECK(asked.machines.calls == std::vector<std::string>{"stop a false", "stop b false"});
    REQUIRE(asked.replies.size() == 2);
    CHECK(reply_at(asked, 0) ==
          json{{"ok", true}, {"event", "requested"}, {"id", 1}, {"name", "a"}});
    asked.machines.ends["b"]();
    CHECK(reply_at(asked, 2)["event"] == "terminated");
    CHECK(reply_at(asked, 2)["name"] == "b");
    CHECK_FALSE(asked.replies.back().last);
    asked.machines.ends["a"]();
    REQUIRE(asked.replies.size() == 5);
    CHECK(reply_at(asked, 4) == json{{"ok", true}, {"event", "done"}, {"failed", 0}});
    CHECK(asked.replies.back().last);
}

TEST_CASE("stop of all leaves out what is not the caller's, and counts what fails") {
    Asked asked;
    asked.machines.rows[1].state = "running";
    auto last = asked.ask(R"({"verb":"stop","all":true,"force":true})", owner_of_b);
    CHECK(asked.machines.calls == std::vector<std::string>{"stop b true"});
    CHECK(last["event"] == "done");
    CHECK(last["failed"] == 0);
    asked.replies.clear();
    asked.machines.stop_result = fail(ErrorKind::limit, "256 others wait");
    last = asked.ask(R"({"verb":"stop","all":true,"wait":true})", owner_of_all);
    CHECK(last == json{{"ok", true}, {"event", "done"}, {"failed", 2}});
    CHECK(reply_at(asked, 1)["error"] == "256 others wait");
}

TEST_CASE("one that is stopping already is waited for, not asked again") {
    Asked asked;
    asked.machines.rows[0].state = "stopping";
    CHECK(asked.ask(R"({"verb":"stop","all":true})")["event"] == "done");
    CHECK(asked.replies.size() == 1);
    CHECK(asked.machines.calls.empty());
    asked.ask(R"({"verb":"stop","all":true,"wait":true})");
    CHECK(asked.machines.calls == std::vector<std::string>{"wait a"});
    asked.machines.ends["a"]();
    CHECK(reply_at(asked, asked.replies.size() - 1)["failed"] == 0);
}

TEST_CASE("log and reset are root's, and know their words") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"log","what":"verbose"})")["ok"] == true);
    CHECK(asked.ask(R"({"verb":"log","what":"brief"})")["ok"] == true);
    CHECK(asked.ask(R"({"verb":"reset","what":"all"})")["ok"] == true);
    CHECK(asked.ask(R"({"verb":"reset","what":"vms"})")["ok"] == true);
    CHECK(asked.ask(R"({"verb":"reset","what":"switches"})")["ok"] == true);
    CHECK(asked.machines.calls == std::vector<std::string>{"verbose", "brief", "reset switches vms",
                                                           "reset vms", "reset switches"});
    CHECK(asked.ask(R"({"verb":"reset","what":"ALL"})")["kind"] == "invalid");
    CHECK(asked.ask(R"({"verb":"log"})")["kind"] == "invalid");
    CHECK(asked.ask(R"({"verb":"log","what":"verbose"})", owner_of_all)["kind"] == "denied");
    CHECK(asked.ask(R"({"verb":"reset","what":"all"})", owner_of_all)["kind"] == "denied");
    CHECK(asked.machines.calls.size() == 5);
    asked.machines.start_result = fail(ErrorKind::busy, "another change is being applied");
    CHECK(asked.ask(R"({"verb":"reset","what":"all"})")["kind"] == "busy");
}

TEST_CASE("leases: root sees all of them, an owner those of his VMs; root takes one back") {
    Asked asked;
    auto shown = [&](std::uint32_t caller) {
        asked.replies.clear();
        CHECK(asked.ask(R"({"verb":"leases"})", caller)["event"] == "end");
        REQUIRE(asked.replies.size() == 2);
        return json::parse(asked.replies[0].json)["leases"];
    };
    auto all = shown(0);
    REQUIRE(all.size() == 2);
    CHECK(all[0]["vm"] == "a");
    CHECK(all[0]["until_s"].is_null());
    CHECK(all[1]["until_s"] == 5);
    CHECK(shown(owner_of_all).size() == 1);
    CHECK(asked.ask(R"({"verb":"release","what":"10.0.0.100"})")["ok"] == true);
    CHECK(asked.machines.calls.back() == "release 10.0.0.100");
    CHECK(asked.ask(R"({"verb":"release","what":"10.0.0"})")["kind"] == "invalid");
    CHECK(asked.ask(R"({"verb":"release","what":"10.0.0.100"})", owner_of_all)["kind"] == "denied");
}

TEST_CASE("a trace is root's: its socket could listen elsewhere") {
    Asked asked;
    CHECK(asked.ask(R"({"verb":"trace","vm":"a"})")["tap"] == "a-if0");
    CHECK(asked.replies.back().fd);
    CHECK(asked.machines.calls.back() == "trace a 0");
    CHECK(asked.ask(R"({"verb":"trace","vm":"a","interface":1})")["kind"] == "not_found");
    const auto calls = asked.machines.calls.size();
    CHECK(asked.ask(R"({"verb":"trace","vm":"a"})", owner_of_all)["kind"] == "denied");
    CHECK(asked.ask(R"({"verb":"trace","vm":"a"})", stranger)["kind"] == "denied");
    CHECK(asked.ask(R"({"verb":"trace","vm":"a","interface":-1})")["kind"] == "invalid");
    CHECK(asked.machines.calls.size() == calls);
}

TEST_CASE("the files of a console log are handed over one by one, to the owner") {
    Asked asked;
    auto last = asked.ask(R"({"verb":"console_log","vm":"a"})", owner_of_all);
    CHECK(last["files"] == 2);
    CHECK(last["kept"] == true);
    REQUIRE(asked.replies.size() == 3);
    CHECK(asked.replies[0].fd);
    CHECK(asked.replies[1].fd);
    CHECK_FALSE(asked.replies[2].fd);
    CHECK(asked.machines.calls.back() == "log of a serial");
    asked.ask(R"({"verb":"console_log","vm":"a","port":"virtio"})");
    CHECK(asked.machines.calls.back() == "log of a virtio");
    CHECK(asked.ask(R"({"verb":"console_log","vm":"a"})", stranger)["kind"] == "denied");
}
