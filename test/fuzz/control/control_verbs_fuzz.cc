// A client's request, as the parent takes it apart: whatever it is, it is answered
// exactly once with a last reply that is a JSON object.
#include <cstdlib>
#include <fcntl.h>
#include <nlohmann/json.hpp>

#include "control/control.h"

using namespace vmhost;

namespace {

class OneMachine final : public control::Operations {
public:
    std::vector<control::VmRow> list() override { return {row_}; }
    Result<control::VmRow> find(std::string_view vm) override {
        if (vm == "a" || vm == "1")
            return row_;
        return fail(ErrorKind::not_found, "vm {} not found", printable(vm));
    }
    bool may_control(const control::Caller& caller, std::string_view) override {
        return caller.uid == 0;
    }
    void count(std::function<void()> done) override { done(); }
    bool may_change_host(const control::Caller&) override { return true; }
    Result<control::PlanRows> plan(const std::string& file) override {
        return control::PlanRows{
            {{"vm a", "vm.a.memory", "changed", file, "", "restart", {}}}, "d1", {}};
    }
    void apply(control::ApplyOrder order) override {
        order.told(order.digest);
        order.done({});
    }
    void start(std::string_view, control::StartOnce,
               std::function<void(Result<void>)> done) override {
        done({});
    }
    void start_new(const control::Caller&, control::NewVm,
                   std::function<void(Result<std::uint32_t>)> done) override {
        done(2U);
    }
    void set_memory(std::string_view, std::uint64_t,
                    std::function<void(Result<void>)> done) override {
        done({});
    }
    void change_medium(std::string_view, std::optional<Fd>, bool,
                       std::function<void(Result<void>)> done) override {
        done({});
    }
    Result<void> stop(std::string_view, bool, std::function<void()> ended) override {
        if (ended)
            ended_ = std::move(ended);
        return {};
    }
    void pause(std::string_view, std::function<void(Result<void>)> done) override { done({}); }
    Result<void> unpause(std::string_view) override { return {}; }
    void send(std::string_view, Fd, std::function<void(Result<void>)> done) override { done({}); }
    void receive(std::string_view, Fd, std::function<void(Result<void>)> done) override {
        done({});
    }
    void make_snapshot(std::string_view, const std::string&,
                       std::function<void(Result<void>)> done) override {
        done({});
    }
    Result<std::vector<control::SnapshotRow>> snapshots(std::string_view) override {
        return std::vector<control::SnapshotRow>(1);
    }
    Result<void> remove_snapshot(std::string_view, const std::string&) override { return {}; }
    Result<void> wait(std::string_view, std::function<void()> ended) override {
        ended_ = std::move(ended);
        return {};
    }
    void metrics(std::function<void(Samples)> done) override {
        done(std::make_shared<const metrics::Samples>());
    }
    Result<Fd> console(std::string_view, bool, bool) override {
        return fail(ErrorKind::not_found, "console not found");
    }
    Result<control::ConsoleFiles> console_log(std::string_view, bool) override {
        return control::ConsoleFiles{};
    }
    Result<Traced> trace(std::string_view, std::size_t interface) override {
        if (interface > 1)
            return fail(ErrorKind::not_found, "vm a has no interface {}", interface);
        return Traced{"a-if0", Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))};
    }
    Result<std::string> net() override { return R"([{"name":"lan"}])"; }
    std::vector<control::EventRow> events() override { return {{1, 2, "a", 1, "started", "id 1"}}; }
    // Who follows gets no last reply: here nobody may.
    Result<void> follow_events(std::function<bool(const control::EventRow&)>,
                               std::function<bool()>) override {
        return fail(ErrorKind::limit, "too many follow");
    }
    void leases(std::function<void(Result<std::vector<control::LeaseRow>>)> done) override {
        done(std::vector<control::LeaseRow>(2));
    }
    void release_lease(Ipv4, std::function<void(Result<void>)> done) override { done({}); }
    void log_verbosely(bool) override {}
    void upgrade(std::function<void(Result<void>)> done) override { done({}); }
    Result<control::InstallRow> reinstall(std::string_view, bool upgrade) override {
        return control::InstallRow{1, upgrade, 2, {}};
    }
    void reset(bool, bool, std::function<void(Result<void>)> done) override { done({}); }
    void end() {
        if (auto ended = std::exchange(ended_, nullptr))
            ended();
    }

private:
    control::VmRow row_{.id = 1, .state = "running", .name = "a"};
    std::function<void()> ended_;
};

// As many descriptors as the first byte says: the request names them, or does not.
std::vector<Fd> some_files(Bytes input) {
    std::vector<Fd> fds;
    for (unsigned i = 0; !input.empty() && i < (input[0] >> 1) % 3U; ++i)
        fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    return fds;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    OneMachine machine;
    control::Verbs verbs(machine);
    int last = 0;
    Bytes input(data, size);
    auto uid = input.empty() ? 0u : input[0] & 1u;
    verbs.handle({uid, uid}, as_text(input.subspan(input.empty() ? 0 : 1)), some_files(input),
                 [&](control::Reply reply) {
                     if (!nlohmann::json::parse(reply.json, nullptr, false).is_object())
                         std::abort();
                     last += reply.last;
                 });
    machine.end();
    if (last != 1)
        std::abort();
    return 0;
}
