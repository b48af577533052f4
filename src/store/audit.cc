// The audit trail in host.db: a row when something is asked for, completed when it is done. So a
// row without an outcome tells of a daemon that ended in between.
//
// Bounded by age, by number, and by number for each user: whoever may only pause and unpause a VM
// cannot wash away what others did.
#include <algorithm>

#include "store/database.h"
#include "store/store.h"

namespace vmhost::store {

namespace {

constexpr unsigned rows_between_prunings = 256;

AuditRow audit_row_of(const Rows& rows) {
    AuditRow row;
    row.number = rows.integer(0);
    row.time_ms = rows.integer(1);
    row.uid = static_cast<std::uint32_t>(rows.integer(2));
    row.gid = static_cast<std::uint32_t>(rows.integer(3));
    row.user = rows.text(4);
    row.verb = rows.text(5);
    row.vm = rows.text(6);
    row.arguments = rows.text(7);
    row.outcome = rows.text(8);
    return row;
}

std::string shortened(std::string_view text) {
    return printable(text, limits::max_audit_text_bytes);
}

} // namespace

Result<std::int64_t> HostStore::audit_began(const AuditRow& row) {
    if (rows_to_prune_ == 0) {
        rows_to_prune_ = rows_between_prunings;
        TRY(prune_audit(row.time_ms));
    }
    --rows_to_prune_;
    TRY(database_->run("INSERT INTO audit (host, time, uid, gid, user, verb, vm, arguments, "
                       "outcome) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                       host_, row.time_ms, row.uid, row.gid, shortened(row.user),
                       shortened(row.verb), shortened(row.vm), shortened(row.arguments),
                       shortened(row.outcome)));
    return database_->last_number();
}

Result<void> HostStore::audit_ended(std::int64_t number, std::string_view outcome) {
    return database_->run("UPDATE audit SET outcome = ? WHERE number = ?", shortened(outcome),
                          number);
}

Result<std::vector<AuditRow>> HostStore::audit(std::size_t count, std::string_view vm) {
    std::vector<AuditRow> all;
    auto rows = TRY(database_->query(
        "SELECT number, time, uid, gid, user, verb, vm, arguments, outcome FROM audit "
        "WHERE host = ?1 AND (?2 = '' OR vm = ?2) ORDER BY number DESC LIMIT ?3",
        host_, vm, static_cast<std::int64_t>(std::min(count, limits::max_audit_rows))));
    while (TRY(rows.next()))
        all.push_back(audit_row_of(rows));
    std::ranges::reverse(all);
    return all;
}

Result<void> HostStore::prune_audit(std::int64_t now_ms) {
    TRY(database_->run("DELETE FROM audit WHERE time < ?",
                       now_ms - limits::audit_keep_days * 86'400'000));
    TRY(database_->run("DELETE FROM audit WHERE number <= (SELECT max(number) - ? FROM audit)",
                       static_cast<std::int64_t>(limits::max_audit_rows)));
    // A user who is not root has, at most, the newest of so many.
    std::vector<std::int64_t> users;
    {
        auto rows =
            TRY(database_->query("SELECT uid FROM audit WHERE uid <> 0 GROUP BY uid "
                                 "HAVING count(*) > ?",
                                 static_cast<std::int64_t>(limits::max_audit_rows_of_user)));
        while (TRY(rows.next()))
            users.push_back(rows.integer(0));
    }
    for (auto uid : users)
        TRY(database_->run("DELETE FROM audit WHERE uid = ?1 AND number <= (SELECT number FROM "
                           "audit WHERE uid = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                           uid, static_cast<std::int64_t>(limits::max_audit_rows_of_user)));
    return {};
}

} // namespace vmhost::store
