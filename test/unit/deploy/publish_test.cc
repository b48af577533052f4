// The program that brings records into the DNS: what it is given, and what becomes of one that
// fails, hangs, or is somebody else's.
#include <catch2/catch.hpp>

#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include "deploy/deploy.h"

using namespace vmhost;
using namespace vmhost::deploy;
using namespace std::chrono_literals;

namespace {

struct Program {
    std::string folder, path;
    explicit Program(const std::string& script) {
        char name[] = "/tmp/publish-XXXXXX";
        folder = ::mkdtemp(name);
        path = folder + "/publish";
        std::ofstream(path) << "#!/bin/sh\ncd " << folder << "\n" << script;
        ::chmod(path.c_str(), 0700);
    }
    ~Program() {
        for (const char* file : {"/publish", "/out", "/pid"})
            ::unlink((folder + file).c_str());
        ::rmdir(folder.c_str());
    }
    std::string out(const char* file = "/out") const {
        std::ifstream in(folder + file);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    Result<void> update(const std::string& records, std::chrono::milliseconds limit = 20s) const {
        return publish_records(path, Publish::update, "puffy.example.org.", records, limit);
    }
};

} // namespace

TEST_CASE("the program gets a verb, a name and records, and nothing else") {
    ::setenv("SECRET_OF_THE_CALLER", "x", 1);
    Program program("{ echo \"$#\" \"$@\"; cat; env | sort; } >out; echo noise\n");
    REQUIRE(program.update("a IN SSHFP 4 2 00\nb\n"));
    auto out = program.out();
    CHECK(out.starts_with("2 update puffy.example.org.\na IN SSHFP 4 2 00\nb\n"));
    CHECK(out.find("SECRET") == std::string::npos);
    CHECK(out.find("PATH=/usr/sbin:/sbin:/usr/bin:/bin\n") != std::string::npos);
    REQUIRE(publish_records(program.path, Publish::remove, "h", ""));
    CHECK(program.out().starts_with("2 delete h\n"));
}

TEST_CASE("more records than a pipe holds, to one that reads none of them") {
    Program program("exit 0\n");
    CHECK(program.update(std::string(1 << 20, 'r')));
}

TEST_CASE("how it failed is told with its first words") {
    auto text = [](const Program& program) {
        auto done = program.update("");
        return done ? "" : done.error().text().substr(program.path.size());
    };
    CHECK(text(Program("echo 'no such zone' >&2; echo more >&2; exit 3\n")) ==
          ": ended with status 3: no such zone");
    CHECK(text(Program("printf '\\033[2Jx' >&2; exit 1\n")) == ": ended with status 1: \\x1b[2Jx");
    CHECK(text(Program("exit 7\n")) == ": ended with status 7");
    CHECK(text(Program("kill -9 $$\n")) == ": ended by signal 9");
    // It says more than anybody wants to hear.
    CHECK(text(Program("head -c 3000000 /dev/zero | tr '\\0' 'y' >&2; exit 1\n")).size() < 300);
    CHECK(publish_records("/nowhere/at/all", Publish::update, "h", "").error().kind() ==
          ErrorKind::not_found);
}

TEST_CASE("one that hangs is ended with all that it has started") {
    Program program("sleep 1000 & echo $! >pid; exec 2>&-; wait\n");
    auto begin = std::chrono::steady_clock::now();
    auto done = program.update("x", 300ms);
    REQUIRE_FALSE(done);
    CHECK(done.error().text().find("did not end within 300ms") != std::string::npos);
    CHECK(std::chrono::steady_clock::now() - begin < 10s);
    auto child = std::stoi(program.out("/pid"));
    // Its parent is gone: who takes it over has to see to it first.
    std::string state;
    for (int i = 0; i < 200; ++i) {
        std::ifstream about("/proc/" + std::to_string(child) + "/stat");
        std::string pid, name;
        if (!(about >> pid >> name >> state) || state == "Z")
            break;
        ::usleep(10'000);
        state = "runs";
    }
    CHECK(state != "runs");
}

TEST_CASE("one that leaves something behind is not waited for") {
    Program program("sleep 5 & exit 0\n");
    auto begin = std::chrono::steady_clock::now();
    CHECK(program.update("x"));
    CHECK(std::chrono::steady_clock::now() - begin < 4s);
}

TEST_CASE("a program that others could have written is not run, nor one for an odd name") {
    Program program("echo ran >out\n");
    ::chmod(program.path.c_str(), 0722);
    CHECK(program.update("").error().kind() == ErrorKind::denied);
    ::chmod(program.path.c_str(), 0700);
    for (const std::string& name : std::vector<std::string>{"", ".", "-x", "a b", "a..b", "a;b",
                                                            "a.-b", std::string(64, 'a')}) {
        INFO(name);
        CHECK(publish_records(program.path, Publish::update, name, "").error().kind() ==
              ErrorKind::invalid);
    }
    CHECK(publish_records("/", Publish::update, "h", "").error().kind() == ErrorKind::invalid);
    CHECK(program.out().empty());
}
