// host.db: which VM has which id, which addresses its interfaces have, and whether it is armed for
// an installation.
//
// An id is given once: AUTOINCREMENT never comes back to a number, though the VM that had it was
// forgotten, so that files and log lines of the old one are never taken for the new one's.
#include "store/store.h"

#include "store/database.h"
#include "store/host_schema.h"

namespace vmhost::store {

namespace {

std::optional<Mac> mac_of(const std::string& text) {
    auto parsed = parse_mac(text);
    return parsed ? std::optional(*parsed) : std::nullopt;
}

std::optional<Ipv4> ipv4_of(const std::string& text) {
    auto parsed = parse_ipv4(text);
    return parsed ? std::optional(*parsed) : std::nullopt;
}

std::optional<Ipv6> ipv6_of(const std::string& text) {
    auto parsed = parse_ipv6(text);
    return parsed ? std::optional(*parsed) : std::nullopt;
}

// Who made it, as a column has it: -1 is the file, so that UNIQUE sees that two are equal.
std::int64_t maker_of(const Machine& machine) {
    return machine.maker ? static_cast<std::int64_t>(*machine.maker) : -1;
}

Machine machine_of(const Rows& rows) {
    Machine machine;
    machine.id = static_cast<std::uint32_t>(rows.integer(0));
    machine.name = rows.text(1);
    if (rows.integer(2) >= 0)
        machine.maker = static_cast<std::uint32_t>(rows.integer(2));
    machine.since_s = rows.integer(3);
    machine.last_s = rows.integer(4);
    return machine;
}

Interface interface_of(const Rows& rows) {
    Interface interface;
    interface.index = static_cast<unsigned>(rows.integer(1));
    interface.lladdr = mac_of(rows.text(2)).value_or(Mac{});
    interface.lladdr_given = rows.integer(3) != 0;
    interface.lladdr_since_s = rows.integer(4);
    interface.switch_name = rows.text(5);
    interface.ipv4 = ipv4_of(rows.text(6));
    interface.ipv4_given = rows.integer(7) != 0;
    interface.ipv4_since_s = rows.integer(8);
    interface.ipv6 = ipv6_of(rows.text(9));
    interface.ipv6_given = rows.integer(10) != 0;
    interface.ipv6_since_s = rows.integer(11);
    return interface;
}

std::string path_in(const std::string& directory) {
    return directory + "/host.db";
}

} // namespace

HostStore::HostStore(std::unique_ptr<Database> database, std::string host)
    : database_(std::move(database)), host_(std::move(host)) {}
HostStore::HostStore(HostStore&&) noexcept = default;
HostStore& HostStore::operator=(HostStore&&) noexcept = default;
HostStore::~HostStore() = default;

Result<HostStore> HostStore::open(const std::string& directory, std::string host) {
    HostStore store(TRY(Database::open(path_in(directory), Database::Access::make, host_schema)),
                    std::move(host));
    // Private host keys: also those whose rows go with that of their VM.
    TRY(store.database_->run("PRAGMA secure_delete = ON"));
    return store;
}

Result<HostStore> HostStore::open_to_look(const std::string& directory, std::string host) {
    return HostStore(TRY(Database::open(path_in(directory), Database::Access::look, host_schema)),
                     std::move(host));
}

Result<HostStore> HostStore::in_memory(std::string host) {
    return HostStore(TRY(Database::open(":memory:", Database::Access::memory, host_schema)),
                     std::move(host));
}

Result<std::vector<std::uint32_t>> HostStore::remember(const std::vector<Machine>& machines,
                                                       std::int64_t now_s) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    std::vector<std::uint32_t> ids(machines.size());
    for (const bool has_id : {true, false}) // that it runs with: nobody is to get it before
        for (std::size_t i = 0; i < machines.size(); ++i)
            if ((machines[i].id != 0) == has_id)
                ids[i] = TRY(remember_one(machines[i], now_s));
    // After all have been named: two may have changed places.
    for (std::size_t i = 0; i < machines.size(); ++i)
        for (const auto& interface : machines[i].interfaces)
            TRY(remember_interface(ids[i], interface, now_s));
    TRY(transaction.commit());
    return ids;
}

Result<std::uint32_t> HostStore::remember_one(const Machine& machine, std::int64_t now_s) {
    // Not an UPSERT: that would use up a number each time.
    TRY(database_->run("UPDATE machine SET last = ? WHERE host = ? AND name = ? AND maker = ?",
                       now_s, host_, machine.name, maker_of(machine)));
    const bool is_new = database_->changed() == 0;
    if (is_new)
        TRY(database_->run("INSERT INTO machine (id, host, name, maker, since, last) "
                           "SELECT iif(?1 = 0 OR EXISTS (SELECT 1 FROM machine WHERE id = ?1), "
                           "NULL, ?1), ?2, ?3, ?4, ?5, ?5",
                           machine.id, host_, machine.name, maker_of(machine), now_s));
    auto rows = TRY(database_->query("SELECT id FROM machine WHERE host = ? AND name = ? AND "
                                     "maker = ?",
                                     host_, machine.name, maker_of(machine)));
    TRY(rows.next());
    const auto id = static_cast<std::uint32_t>(rows.integer(0));
    if (is_new && machine.arm_upgrade)
        TRY(arm_in_transaction(id, *machine.arm_upgrade, now_s));
    return id;
}

Result<void> HostStore::remember_interface(std::uint32_t id, const Interface& interface,
                                           std::int64_t now_s) {
    auto index = static_cast<std::int64_t>(interface.index);
    auto lladdr = interface.lladdr.text();
    auto ipv4 = interface.ipv4 ? std::optional(interface.ipv4->text()) : std::nullopt;
    auto ipv6 = interface.ipv6 ? std::optional(interface.ipv6->text()) : std::nullopt;
    TRY(database_->run("UPDATE interface SET lladdr = NULL WHERE lladdr = ? AND "
                       "NOT (machine = ? AND number = ?) AND "
                       "EXISTS (SELECT 1 FROM machine WHERE id = interface.machine AND host = ?)",
                       lladdr, id, index, host_));
    TRY(database_->run("UPDATE interface SET ipv4 = NULL WHERE ipv4 = ? AND switch = ? AND "
                       "NOT (machine = ? AND number = ?) AND "
                       "EXISTS (SELECT 1 FROM machine WHERE id = interface.machine AND host = ?)",
                       ipv4, interface.switch_name, id, index, host_));
    TRY(database_->run("UPDATE interface SET ipv6 = NULL WHERE ipv6 = ? AND switch = ? AND "
                       "NOT (machine = ? AND number = ?) AND "
                       "EXISTS (SELECT 1 FROM machine WHERE id = interface.machine AND host = ?)",
                       ipv6, interface.switch_name, id, index, host_));
    TRY(database_->run(
        "INSERT INTO interface (machine, number, lladdr, lladdr_given, lladdr_since, "
        "switch, ipv4, ipv4_given, ipv4_since, ipv6, ipv6_given, ipv6_since) "
        "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?5, ?9, ?10, ?5) "
        "ON CONFLICT DO UPDATE SET "
        "lladdr_since = iif(lladdr IS ?3, lladdr_since, ?5), "
        "ipv4_since = iif(ipv4 IS ?7 AND switch = ?6, ipv4_since, ?5), "
        "ipv6_since = iif(ipv6 IS ?9 AND switch = ?6, ipv6_since, ?5), "
        "lladdr = ?3, lladdr_given = ?4, switch = ?6, ipv4 = ?7, ipv4_given = ?8, "
        "ipv6 = ?9, ipv6_given = ?10",
        id, index, lladdr, interface.lladdr_given, now_s, interface.switch_name, ipv4,
        interface.ipv4_given, ipv6, interface.ipv6_given));
    return {};
}

Result<std::vector<Machine>> HostStore::machines() {
    std::vector<Machine> all;
    {
        auto rows = TRY(database_->query("SELECT id, name, maker, since, last FROM machine "
                                         "WHERE host = ? ORDER BY id",
                                         host_));
        while (TRY(rows.next()))
            all.push_back(machine_of(rows));
    }
    auto rows = TRY(database_->query(
        "SELECT machine, number, lladdr, lladdr_given, lladdr_since, switch, ipv4, ipv4_given, "
        "ipv4_since, ipv6, ipv6_given, ipv6_since FROM interface WHERE machine IN (SELECT id FROM "
        "machine WHERE host = ?) "
        "ORDER BY machine, number",
        host_));
    auto machine = all.begin();
    while (TRY(rows.next())) {
        while (machine != all.end() && machine->id != rows.integer(0))
            ++machine;
        if (machine == all.end())
            return fail(ErrorKind::corrupt, "an interface of no VM in host.db");
        machine->interfaces.push_back(interface_of(rows));
    }
    return all;
}

Result<std::optional<Machine>> HostStore::find(std::string_view name) {
    std::optional<Machine> found;
    for (auto& machine : TRY(machines()))
        if (machine.name == name &&
            (!found || !machine.maker || (found->maker && machine.last_s > found->last_s)))
            found = std::move(machine);
    return found;
}

Result<unsigned> HostStore::forget(std::string_view name) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    TRY(database_->run("DELETE FROM machine WHERE host = ? AND name = ?", host_, name));
    auto count = database_->changed();
    TRY(transaction.commit());
    return count;
}

Result<unsigned> HostStore::forget_older(std::int64_t before_s) {
    TRY(database_->run("DELETE FROM machine WHERE host = ? AND last < ?", host_, before_s));
    return database_->changed();
}

Result<unsigned> HostStore::forget_surplus(std::uint32_t maker, std::size_t keep) {
    TRY(database_->run("DELETE FROM machine WHERE id IN (SELECT id FROM machine WHERE host = ? "
                       "AND maker = ? ORDER BY last DESC, id DESC LIMIT -1 OFFSET ?)",
                       host_, maker, static_cast<std::int64_t>(keep)));
    return database_->changed();
}

// Foreign keys are looked at: a VM that is not there makes it fail.
Result<void> HostStore::arm_in_transaction(std::uint32_t machine, bool upgrade,
                                           std::int64_t now_s) {
    return database_->run("INSERT INTO installation (machine, number, upgrade, armed, sealed) "
                          "VALUES (?1, 1, ?2, ?3, NULL) ON CONFLICT DO UPDATE SET "
                          "number = number + 1, upgrade = ?2, armed = ?3, sealed = NULL, "
                          "progress = ''",
                          machine, upgrade, now_s);
}

Result<std::vector<Installation>> HostStore::installations() {
    auto rows = TRY(database_->query("SELECT machine, number, upgrade, armed, sealed, progress "
                                     "FROM installation WHERE machine IN "
                                     "(SELECT id FROM machine WHERE host = ?) ORDER BY machine",
                                     host_));
    std::vector<Installation> all;
    while (TRY(rows.next())) {
        auto& one = all.emplace_back();
        one.machine = static_cast<std::uint32_t>(rows.integer(0));
        one.number = static_cast<std::uint32_t>(rows.integer(1));
        one.upgrade = rows.integer(2) != 0;
        one.armed_s = rows.integer(3);
        if (!rows.is_null(4))
            one.sealed_s = rows.integer(4);
        one.progress = rows.text(5);
    }
    return all;
}

Result<Installation> HostStore::arm(std::uint32_t machine, bool upgrade, std::int64_t now_s) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    {
        auto known = TRY(
            database_->query("SELECT 1 FROM machine WHERE host = ? AND id = ?", host_, machine));
        if (!TRY(known.next()))
            return fail(ErrorKind::not_found, "host.db has no VM with id {}", machine);
    }
    TRY(arm_in_transaction(machine, upgrade, now_s));
    Installation armed{machine, 0, upgrade, now_s, {}, {}};
    {
        auto rows =
            TRY(database_->query("SELECT number FROM installation WHERE machine = ?", machine));
        TRY(rows.next());
        armed.number = static_cast<std::uint32_t>(rows.integer(0));
    }
    TRY(transaction.commit());
    return armed;
}

Result<void> HostStore::keep_progress(std::uint32_t machine, std::uint32_t number,
                                      std::string_view progress) {
    return database_->run("UPDATE installation SET progress = ? WHERE machine = ? AND number = ?",
                          progress, machine, number);
}

Result<std::vector<HostKey>> HostStore::host_keys() {
    auto rows = TRY(database_->query("SELECT machine, installation, public, private FROM host_key "
                                     "WHERE machine IN (SELECT id FROM machine WHERE host = ?) "
                                     "ORDER BY machine",
                                     host_));
    std::vector<HostKey> all;
    while (TRY(rows.next()))
        all.push_back({static_cast<std::uint32_t>(rows.integer(0)),
                       static_cast<std::uint32_t>(rows.integer(1)), rows.text(2), rows.text(3)});
    return all;
}

Result<void> HostStore::keep_host_key(const HostKey& key) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    TRY(database_->run("INSERT OR REPLACE INTO host_key (machine, installation, public, private) "
                       "SELECT id, ?, ?, ? FROM machine WHERE host = ? AND id = ?",
                       key.installation, key.public_line, key.private_text, host_, key.machine));
    if (database_->changed() == 0)
        return fail(ErrorKind::not_found, "host.db has no VM with id {}", key.machine);
    return transaction.commit();
}

Result<void> HostStore::forget_private_key(std::uint32_t machine) {
    {
        auto transaction = TRY(Database::Transaction::begin(*database_, true));
        TRY(database_->run("UPDATE host_key SET private = '' WHERE machine = ?", machine));
        TRY(transaction.commit());
    }
    // Nor is it left in the log of changes; a reader may keep it there for a while.
    (void)database_->run("PRAGMA wal_checkpoint(TRUNCATE)");
    return {};
}

Result<void> HostStore::seal(std::uint32_t machine, std::uint32_t number, std::int64_t now_s) {
    auto transaction = TRY(Database::Transaction::begin(*database_, true));
    TRY(database_->run("UPDATE installation SET sealed = ? WHERE machine = ? AND number = ? AND "
                       "sealed IS NULL",
                       now_s, machine, number));
    if (database_->changed() == 0)
        return fail(ErrorKind::invalid, "installation {} of the VM with id {} is not armed", number,
                    machine);
    return transaction.commit();
}

} // namespace vmhost::store
