#include <catch2/catch.hpp>

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
    bool may_control(const control::Caller& caller, std::string_view) override {
        return caller.uid == 0 || caller.uid == 1000;
    }
    bool may_change_host(const control::Caller& caller) override { return caller.uid == 0; }
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
        on_end = std::move(ended);
        return {};
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
        if (find(vm)->state != "running")
            return fail(ErrorKind::invalid, "vm {} is not running", vm);
        on_end = std::move(ended);
        return {};
    }
    Result<Fd> console(std::string_view, bool want_writer, bool virtio) override {
        calls.push_back(fmt::format("console {} {}", virtio ? "virtio" : "serial",
                                    want_writer ? "writer" : "reader"));
        return std::move(socket_pair(SOCK_STREAM)->first);
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

    json ask(const std::string& text, std::uint32_t uid = 0, std::vector<Fd> fds = {}) {
        verbs.handle({uid, uid}, text, std::move(fds),
                     [this](control::Reply reply) { replies.push_back(std::move(reply)); });
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
    CHECK(machines.calls.empty());
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
