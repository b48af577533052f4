// What surrounds the life of a VM: the policy of restarts, the log of its console, and
// control groups.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include "host/cgroup.h"
#include "host/console_log.h"
#include "host/restarts.h"

using namespace vmhost;
using namespace vmhost::host;
using namespace std::chrono_literals;
using config::Restart;

TEST_CASE("restart: the policy decides, the delay doubles, and there is an end") {
    Restarts restarts;
    CHECK_FALSE(restarts.after_end(Restart::never, true, 0));
    CHECK_FALSE(restarts.after_end(Restart::on_failure, false, 0));
    CHECK_FALSE(restarts.given_up());
    CHECK(restarts.after_end(Restart::on_failure, true, 0) == 1s);
    CHECK(restarts.after_end(Restart::always, false, 0) == 2s);
    CHECK(restarts.after_end(Restart::always, true, 0) == 4s);
    CHECK(restarts.after_end(Restart::always, true, limits::good_run_ms) == 1s); // forgiven
    for (unsigned i = 1; i < 6; ++i)
        restarts.after_end(Restart::always, true, 0);
    for (unsigned i = 6; i < limits::max_restarts_in_a_row; ++i)
        CHECK(restarts.after_end(Restart::always, true, 0) == 60s);
    CHECK(restarts.given_up());
    CHECK_FALSE(restarts.after_end(Restart::always, true, 0));
    restarts.begin_anew();
    CHECK(restarts.after_end(Restart::always, true, 0) == 1s);
}

namespace {

struct LogRig {
    std::filesystem::path folder =
        std::filesystem::temp_directory_path() / fmt::format("vmhost-log-{}", ::getpid());
    Loop loop;
    ipc::SharedRingReader reader = ipc::SharedRingReader::create(4096).value();
    ipc::SharedRing ring = ipc::SharedRing::map(reader.memory(), 4096).value();
    std::uint64_t end = 0;
    std::unique_ptr<ConsoleLog> log;

    LogRig() { std::filesystem::create_directory(folder); }
    ~LogRig() {
        log.reset();
        std::filesystem::remove_all(folder);
    }
    void open(std::uint64_t file_bytes, unsigned files, std::uint64_t bytes_per_s) {
        auto made = ConsoleLog::open(loop, reader,
                                     {.path = folder / "a.log",
                                      .file_bytes = file_bytes,
                                      .files = files,
                                      .bytes_per_s = bytes_per_s});
        if (!made)
            FAIL(made.error().message());
        log = std::move(*made);
    }
    // As the VM process does it.
    void say(std::string_view text, bool tell = true) {
        for (char byte : text)
            ring.bytes()[end++ % 4096] = static_cast<std::uint8_t>(byte);
        ring.publish(end);
        if (!tell)
            return;
        const std::uint64_t one = 1;
        REQUIRE(::write(log->bell().get(), &one, sizeof one) == sizeof one);
        loop.run_once(true);
    }
    std::string content(const std::string& name = "a.log") {
        std::ifstream file(folder / name);
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }
};

} // namespace

TEST_CASE("a console log has what the guest said, also what it said last") {
    LogRig rig;
    rig.open(1 << 20, 2, 1 << 20);
    rig.say("hello ");
    rig.say("world\r\n");
    CHECK(rig.content() == "hello world\r\n");
    rig.say("last words", false); // its process has no time to ring
    rig.log->finish();
    CHECK(rig.content() == "hello world\r\nlast words");
    rig.open(1 << 20, 2, 1 << 20); // another start goes on in the same file
    CHECK(rig.content() == "hello world\r\nlast words");
}

TEST_CASE("full files are kept up to their number") {
    LogRig rig;
    rig.open(10, 3, 1 << 20);
    for (const char* text : {"11111111", "22222222", "33333333", "44444444"})
        rig.say(text);
    CHECK(rig.content() == "44444444");
    CHECK(rig.content("a.log.1") == "33333333");
    CHECK(rig.content("a.log.2") == "22222222");
    CHECK_FALSE(std::filesystem::exists(rig.folder / "a.log.3"));
}

TEST_CASE(
    "serial output is unbounded: a flood costs so many bytes a second, and the loss is told") {
    LogRig rig;
    rig.open(1 << 20, 1, 1000);
    rig.say(std::string(900, 'a'));
    rig.say(std::string(900, 'b')); // 100 of them fit into this second
    CHECK(rig.content() == std::string(900, 'a') + std::string(100, 'b'));
    for (unsigned i = 0; i < 10; ++i)
        rig.say(std::string(2000, 'c'), false);
    rig.log->finish();
    auto text = rig.content();
    auto told = text.find("[vmhost: ");
    REQUIRE(told != std::string::npos);
    // Of 900 b and 20000 c the ring has 4096, and 100 b were written.
    CHECK(text.substr(told).starts_with("[vmhost: 16704 bytes of output were dropped]"));
    CHECK(text.size() < 1000 + 100 + 1000);
}

TEST_CASE("a log that cannot be is refused with its name") {
    LogRig rig;
    auto made = ConsoleLog::open(rig.loop, rig.reader, {.path = rig.folder / "no" / "a.log"});
    REQUIRE_FALSE(made);
    CHECK(made.error().message().find("no/") != std::string::npos);
    std::filesystem::create_symlink("/etc/passwd", rig.folder / "link");
    CHECK_FALSE(ConsoleLog::open(rig.loop, rig.reader, {.path = rig.folder / "link"}));
}

TEST_CASE("a shared ring: the reader trusts nothing of the writer") {
    LogRig rig;
    std::vector<std::uint8_t> into;
    std::uint64_t position = 0;
    rig.open(1 << 20, 1, 1 << 20);
    rig.say("abc", false);
    CHECK(rig.reader.read(position, 100, into) == 0);
    CHECK(as_text(into) == "abc");
    rig.ring.publish(1); // back
    CHECK(rig.reader.read(position, 100, into) == 0);
    CHECK(into.empty());
    rig.ring.publish(~std::uint64_t{0}); // and far ahead
    CHECK(rig.reader.read(position, 100, into) > 0);
    CHECK(into.size() <= 100);
    CHECK(rig.reader.tail(1 << 20).size() <= 4096);
    CHECK_FALSE(ipc::SharedRing::map(rig.reader.memory(), 8192)); // not of that size
    CHECK(::ftruncate(rig.reader.memory().get(), 0) < 0);         // sealed
}

TEST_CASE("hierarchies of control groups are found by their controllers") {
    auto mounts = CgroupMounts::parse(
        "30 25 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
        "31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 master:2 - cgroup2 cgroup2 rw\n"
        "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
        "34 30 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
        "35 30 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
    CHECK(mounts.v2 == "/sys/fs/cgroup/unified");
    CHECK(mounts.v1_cpu == "/sys/fs/cgroup/cpu,cpuacct");
    CHECK(mounts.v1_memory == "/sys/fs/cgroup/memory");
    CHECK(CgroupMounts::parse("nonsense\n\n - \n").v2.empty());

    std::vector<std::string> missing;
    auto none =
        Cgroup::make({}, "vmhost-test", "a", {.cpu_weight = 50, .memory_bytes = 1 << 20}, missing);
    REQUIRE(none);
    CHECK(missing == std::vector<std::string>{"processors", "memory"});
    CHECK(none->add(::getpid()));
}

TEST_CASE("a controller that cannot be handed down leaves no folder") {
    std::string top = std::filesystem::temp_directory_path() / "vmhost-cgroup-XXXXXX";
    REQUIRE(::mkdtemp(top.data()));
    std::ofstream(top + "/cgroup.controllers") << "cpu memory\n";
    std::ofstream(top + "/cgroup.subtree_control"); // the folder below has none
    std::vector<std::string> missing;
    CHECK(Cgroup::make({.v2 = top}, "vmhost-test", "a", {.cpu_weight = 50}, missing));
    CHECK(missing == std::vector<std::string>{"processors"});
    CHECK_FALSE(std::filesystem::exists(top + "/vmhost-test"));

    // But one that is in use stays.
    std::filesystem::create_directories(top + "/vmhost-test/b");
    CHECK(Cgroup::make({.v2 = top}, "vmhost-test", "a", {.cpu_weight = 50}, missing));
    CHECK(std::filesystem::exists(top + "/vmhost-test/b"));
    std::filesystem::remove_all(top);
}
