// Rows go in as they are, one REPLACE each: with the statement prepared that is some five
// microseconds, so that what a commit costs is its wait for the disk, which all rows of a
// transaction share.
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>

#include "store/database.h"
#include "store/handed_files.h"

namespace vmhost::store {

namespace {

// Each step was released as it is: a change is a further step.
constexpr const char* steps[] = {
    R"(CREATE TABLE lease (
        network TEXT NOT NULL,
        address INTEGER NOT NULL,
        mac TEXT NOT NULL,
        vm TEXT NOT NULL,
        client TEXT NOT NULL,
        host_name TEXT NOT NULL,
        state INTEGER NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        PRIMARY KEY (network, address)) WITHOUT ROWID;)",
};
constexpr Schema schema{0x766d6864, steps}; // "vmhd"

// What SQLite locks of a database (sqlite.org/fileformat2.html#lockbyte): pending, reserved, and
// 510 bytes of readers.
constexpr off_t lock_start = 0x4000'0000, lock_bytes = 512;

Result<Fd> open_one(const std::string& path) {
    Fd file(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file) {
        auto kind = errno == EACCES || errno == EPERM || errno == EROFS || errno == ENOENT
                        ? ErrorKind::denied
                        : ErrorKind::io;
        return fail(kind, "{}: {}", printable(path), std::strerror(errno));
    }
    struct stat there {};
    if (::fstat(file.get(), &there) < 0)
        return fail_errno(errno, "{}", printable(path));
    if (!S_ISREG(there.st_mode))
        return fail(ErrorKind::invalid, "{}: is no regular file", printable(path));
    if (there.st_uid != ::geteuid() || (there.st_mode & 022) != 0)
        return fail(ErrorKind::invalid,
                    "{}: belongs to uid {} and has mode {:o}: others may write to it, so that what "
                    "it says cannot be relied on",
                    printable(path), there.st_uid, there.st_mode & 0777);
    return file;
}

// Of the open file, so that it goes along with the descriptor.
Result<void> lock(const Fd& file, const std::string& path) {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    whole.l_start = lock_start;
    whole.l_len = lock_bytes;
    if (::fcntl(file.get(), F_OFD_SETLK, &whole) == 0)
        return {};
    if (errno == EAGAIN || errno == EACCES)
        return fail(ErrorKind::busy, "{}: another program holds it", printable(path));
    return fail_errno(errno, "lock {}", printable(path));
}

std::string hex(std::string_view bytes) {
    std::string out;
    for (auto byte : as_bytes(bytes))
        fmt::format_to(std::back_inserter(out), "{:02x}", byte);
    return out;
}

std::string unhex(std::string_view text) {
    auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    std::string out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<char>((digit(text[i]) << 4 | digit(text[i + 1])) & 0xff));
    return out;
}

Result<LeaseRow> lease_row_of(const Rows& rows) {
    LeaseRow row;
    row.network = rows.text(0);
    row.address.value = static_cast<std::uint32_t>(rows.integer(1));
    row.mac = TRY(parse_mac(rows.text(2)));
    row.vm = rows.text(3);
    row.client_id = unhex(rows.text(4));
    row.host_name = rows.text(5);
    row.state = static_cast<LeaseState>(rows.integer(6));
    row.since_s = rows.integer(7);
    row.until_s = rows.integer(8);
    row.seen_s = rows.integer(9);
    return row;
}

} // namespace

std::string_view name_of(LeaseState state) {
    switch (state) {
    case LeaseState::none:
        return "none";
    case LeaseState::offered:
        return "offered";
    case LeaseState::bound:
        return "bound";
    case LeaseState::expired:
        return "expired";
    case LeaseState::released:
        return "released";
    case LeaseState::declined:
        return "declined";
    }
    return "none";
}

Result<LeaseFiles> open_lease_files(const std::string& directory) {
    auto path = directory + "/leases.db";
    LeaseFiles files;
    files.database = TRY(open_one(path));
    TRY(lock(files.database, path));
    files.wal = TRY(open_one(path + "-wal"));
    files.journal = TRY(open_one(path + "-journal"));
    return files;
}

LeaseStore::LeaseStore(std::unique_ptr<HandedFiles> files, std::unique_ptr<Database> database)
    : files_(std::move(files)), database_(std::move(database)) {}
LeaseStore::LeaseStore(LeaseStore&&) noexcept = default;
LeaseStore::~LeaseStore() = default;

LeaseStore& LeaseStore::operator=(LeaseStore&& other) noexcept {
    database_ = std::move(other.database_); // before the files that it is on
    files_ = std::move(other.files_);
    return *this;
}

Result<LeaseStore> LeaseStore::open(LeaseFiles files) {
    auto handed = TRY(HandedFiles::make(std::move(files)));
    auto database = TRY(Database::open_handed("leases.db", handed->name(), schema));
    return LeaseStore(std::move(handed), std::move(database));
}

Result<LeaseStore> LeaseStore::in_memory() {
    return LeaseStore(nullptr, TRY(Database::open(":memory:", Database::Access::memory, schema)));
}

Result<std::vector<LeaseRow>> LeaseStore::all() {
    std::vector<LeaseRow> out;
    auto rows = TRY(database_->query("SELECT network, address, mac, vm, client, host_name, state, "
                                     "since, until, seen FROM lease ORDER BY network, address"));
    while (TRY(rows.next()))
        out.push_back(TRY(lease_row_of(rows)));
    return out;
}

Result<void> LeaseStore::write(std::span<const LeaseRow> rows) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    for (const auto& row : rows) {
        if (row.state == LeaseState::none)
            TRY(database_->run("DELETE FROM lease WHERE network = ? AND address = ?", row.network,
                               row.address.value));
        else
            TRY(database_->run(
                "REPLACE INTO lease (network, address, mac, vm, client, host_name, state, since, "
                "until, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row.network, row.address.value, row.mac.text(), row.vm, hex(row.client_id),
                row.host_name, static_cast<std::int64_t>(row.state), row.since_s, row.until_s,
                row.seen_s));
    }
    return transaction.commit();
}

Result<unsigned> LeaseStore::forget_older(std::int64_t before_s) {
    TRY(database_->run("DELETE FROM lease WHERE until < ?", before_s));
    return database_->changed();
}

} // namespace vmhost::store
