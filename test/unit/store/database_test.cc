#include <catch2/catch.hpp>

#include <csignal>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder.h"
#include "store/database.h"

using namespace vmhost;
using namespace vmhost::store;

namespace {

constexpr const char* first_step = "CREATE TABLE pair (name TEXT PRIMARY KEY, value INTEGER)";
constexpr const char* second_step = "ALTER TABLE pair ADD COLUMN note TEXT NOT NULL DEFAULT 'old'";
constexpr const char* broken_step = "CREATE TABLE other (a); CREATE TABLE pair (b)";
constexpr const char* one_step[] = {first_step};
constexpr const char* two_steps[] = {first_step, second_step};
constexpr const char* broken_steps[] = {first_step, broken_step};
constexpr Schema old_schema{0x1234, one_step}, new_schema{0x1234, two_steps},
    broken_schema{0x1234, broken_steps}, strange_schema{0x4321, one_step};

using Access = Database::Access;

std::unique_ptr<Database> opened(const std::string& path, const Schema& schema = old_schema) {
    auto database = Database::open(path, Access::make, schema);
    if (!database)
        FAIL(database.error().message());
    return *std::move(database);
}

// The kind of the refusal and its text.
std::string refused(const std::string& path, Access access, const Schema& schema = old_schema) {
    auto database = Database::open(path, access, schema);
    return database ? "opened"
                    : fmt::format("{}: {}", name_of(database.error().kind()),
                                  database.error().message());
}

std::int64_t count(Database& database) {
    auto rows = database.query("SELECT count(*) FROM pair");
    REQUIRE(rows);
    REQUIRE(*rows->next());
    return rows->integer(0);
}

void put(Database& database, std::string_view name, std::int64_t value) {
    REQUIRE(database.run("INSERT INTO pair (name, value) VALUES (?, ?)", name, value));
}

void write_file(const std::string& path, std::string_view text) {
    std::ofstream(path, std::ios::binary) << text;
}

void die() {
    ::kill(::getpid(), SIGKILL);
}

// Runs act in a process of its own, which must end by SIGKILL: act dies with everything open.
template <class Act>
void killed_while(Act act) {
    auto child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        act();
        ::_exit(1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
}

} // namespace

TEST_CASE("what is written is there when the file is opened again") {
    Folder folder;
    auto path = folder / "a.db";
    put(*opened(path), "it's; DROP TABLE pair --", 7);
    auto again = opened(path);
    auto rows = again->query("SELECT name, value, NULL FROM pair");
    REQUIRE(rows);
    REQUIRE(*rows->next());
    CHECK(rows->text(0) == "it's; DROP TABLE pair --");
    CHECK(rows->integer(1) == 7);
    CHECK(rows->is_null(2));
    CHECK_FALSE(*rows->next());
}

TEST_CASE("the file is for its owner only") {
    Folder folder;
    auto path = folder / "a.db";
    auto database = opened(path);
    put(*database, "a", 1);
    for (const auto* end : {"", "-wal", "-shm"}) {
        struct stat there {};
        REQUIRE(::stat((path + end).c_str(), &there) == 0);
        CHECK((there.st_mode & 0777) == 0600);
    }
}

TEST_CASE("a transaction is all or nothing") {
    Folder folder;
    auto database = opened(folder / "a.db");
    {
        auto transaction = Database::Transaction::begin(*database, true);
        REQUIRE(transaction);
        put(*database, "a", 1);
    } // not committed
    CHECK(count(*database) == 0);
    auto transaction = Database::Transaction::begin(*database, true);
    REQUIRE(transaction);
    put(*database, "a", 1);
    CHECK_FALSE(database->run("INSERT INTO pair (name, value) VALUES ('a', 2)")); // and goes on
    put(*database, "b", 1);
    REQUIRE(transaction->commit());
    CHECK(count(*database) == 2);
}

TEST_CASE("kill -9 at any point leaves whole transactions") {
    Folder folder;
    auto path = folder / "a.db";
    opened(path);
    SECTION("in the middle of one") {
        killed_while([&] {
            auto database = opened(path);
            put(*database, "before", 1);
            auto transaction = Database::Transaction::begin(*database, true);
            for (int i = 0; i < 20'000; ++i) // beyond the page cache: some are in the file
                put(*database, fmt::format("row {} {}", i, std::string(100, 'x')), i);
            die();
        });
        CHECK(count(*opened(path)) == 1);
    }
    SECTION("right behind one") {
        killed_while([&] {
            auto database = opened(path);
            auto transaction = Database::Transaction::begin(*database, false);
            put(*database, "a", 1);
            put(*database, "b", 1);
            (void)transaction->commit();
            die();
        });
        CHECK(count(*opened(path)) == 2);
    }
    SECTION("at any byte of the log") {
        // As a power failure may leave it: the log is cut anywhere.
        killed_while([&] {
            auto database = opened(path);
            for (int i = 0; i < 5; ++i) {
                auto transaction = Database::Transaction::begin(*database, false);
                put(*database, fmt::format("a{}", i), i);
                put(*database, fmt::format("b{}", i), i);
                (void)transaction->commit();
            }
            die();
        });
        auto whole = std::filesystem::file_size(path + "-wal");
        REQUIRE(whole > 4096);
        auto kept = folder / "kept";
        std::filesystem::create_directory(kept);
        for (const auto* name : {"/a.db", "/a.db-wal"})
            std::filesystem::copy(folder.path + name, kept + name);
        std::int64_t last = 10;
        for (auto size = whole + 1; size > 997; size -= 997) {
            std::filesystem::remove(path + "-shm");
            for (const auto* name : {"/a.db", "/a.db-wal"})
                std::filesystem::copy(kept + name, folder.path + name,
                                      std::filesystem::copy_options::overwrite_existing);
            std::filesystem::resize_file(path + "-wal", std::min(size, whole));
            auto rows = count(*opened(path));
            CHECK(rows % 2 == 0);
            CHECK(rows <= last);
            last = rows;
        }
        CHECK(last == 0);
    }
}

TEST_CASE("an older file is brought forward and a newer one refused") {
    Folder folder;
    auto path = folder / "a.db";
    put(*opened(path, old_schema), "a", 1);
    CHECK_THAT(refused(path, Access::look, new_schema), Catch::Contains("unsupported: "));
    {
        auto database = opened(path, new_schema);
        auto rows = database->query("SELECT value, note FROM pair");
        REQUIRE(rows);
        REQUIRE(*rows->next());
        CHECK(rows->integer(0) == 1);
        CHECK(rows->text(1) == "old");
    }
    CHECK(
        refused(path, Access::make, old_schema) ==
        fmt::format("unsupported: {}: is of version 2, written by a newer vmhost; this one knows 1",
                    path));
    CHECK_THAT(refused(path, Access::look, old_schema), Catch::StartsWith("unsupported: "));
    CHECK(refused(path, Access::look, new_schema) == "opened");
}

TEST_CASE("a migration that fails changes nothing") {
    Folder folder;
    auto path = folder / "a.db";
    put(*opened(path), "a", 1);
    CHECK_THAT(refused(path, Access::make, broken_schema), Catch::Contains("already exists"));
    auto database = opened(path);
    CHECK(count(*database) == 1);
    CHECK_FALSE(database->query("SELECT * FROM other"));
}

TEST_CASE("a file that is not ours is refused") {
    Folder folder;
    auto path = folder / "a.db";
    SECTION("another program's") {
        opened(path, strange_schema);
        CHECK_THAT(refused(path, Access::make),
                   Catch::StartsWith("corrupt: " + path) && Catch::Contains("none of vmhost's"));
    }
    SECTION("no database at all") {
        write_file(path, std::string(8192, 'x'));
        ::chmod(path.c_str(), 0600);
        CHECK_THAT(refused(path, Access::make),
                   Catch::StartsWith("corrupt: " + path) && Catch::Contains("move it away"));
    }
    SECTION("others may write to it") {
        opened(path);
        ::chmod(path.c_str(), 0666);
        CHECK_THAT(refused(path, Access::make), Catch::Contains("mode 666"));
    }
    SECTION("a folder") {
        std::filesystem::create_directory(path);
        CHECK_THAT(refused(path, Access::make), Catch::Contains("is no regular file"));
    }
    SECTION("a link to another") {
        opened(folder / "b.db");
        std::filesystem::create_symlink(folder / "b.db", path);
        CHECK_THAT(refused(path, Access::make), Catch::Contains("is no regular file"));
    }
}

TEST_CASE("a damaged page is found before anything is read") {
    Folder folder;
    auto path = folder / "a.db";
    {
        auto database = opened(path);
        for (int i = 0; i < 2000; ++i)
            put(*database, fmt::format("name {}", i), i);
    }
    auto size = std::filesystem::file_size(path);
    REQUIRE(size > 8 * 4096);
    {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(size / 4096 / 2 * 4096));
        file << std::string(4096, '\xff');
    }
    CHECK_THAT(refused(path, Access::make),
               Catch::StartsWith("corrupt: ") && Catch::Contains("move it away"));
    std::filesystem::resize_file(path, 100);
    CHECK_THAT(refused(path, Access::make), Catch::StartsWith("corrupt: "));
}

TEST_CASE("a directory that is missing or cannot be written is told apart") {
    Folder folder;
    CHECK_THAT(refused(folder / "no/a.db", Access::make), Catch::StartsWith("not_found: "));
    CHECK_THAT(refused(folder / "a.db", Access::look), Catch::StartsWith("not_found: "));
    CHECK_THAT(refused("/proc/a.db", Access::make),
               Catch::StartsWith("not_found: ") || Catch::StartsWith("denied: "));
    if (::geteuid() != 0)
        return;
    // As another user, in a process of its own.
    auto path = folder / "a.db";
    opened(path);
    auto child = ::fork();
    if (child == 0) {
        (void)!::setuid(65534);
        bool denied = refused(path, Access::make).starts_with("denied: ") &&
                      refused(folder / "b.db", Access::make).starts_with("denied: ");
        ::_exit(denied ? 0 : 1);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
}

TEST_CASE("a file that another program holds is busy, not broken") {
    Folder folder;
    auto path = folder / "a.db";
    auto one = opened(path), two = opened(path);
    auto transaction = Database::Transaction::begin(*one, true);
    REQUIRE(transaction);
    auto second = Database::Transaction::begin(*two, false);
    REQUIRE_FALSE(second);
    CHECK(second.error().kind() == ErrorKind::busy);
    CHECK_THAT(second.error().message(), Catch::Contains("another program holds it"));
    CHECK(count(*two) == 0); // a reader is not held up
    REQUIRE(transaction->commit());
    CHECK(Database::Transaction::begin(*two, false));
}

TEST_CASE("a full disk is told as one and undone") {
    Folder folder;
    auto database = opened(folder / "a.db");
    put(*database, "a", 1);
    // The limit of the file's size stands for the disk's.
    REQUIRE(database->run("PRAGMA max_page_count = 16"));
    auto transaction = Database::Transaction::begin(*database, false);
    Result<void> full;
    for (int i = 0; full && i < 100'000; ++i)
        full = database->run("INSERT INTO pair (name, value) VALUES (?, 1)",
                             fmt::format("{} {}", i, std::string(200, 'x')));
    REQUIRE_FALSE(full);
    CHECK(full.error().kind() == ErrorKind::io);
    CHECK_THAT(full.error().message(), Catch::Contains("full"));
    { auto gone = std::move(*transaction); }
    CHECK(count(*database) == 1);
    put(*database, "b", 1);
}
