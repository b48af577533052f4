// A text of JSON lines, written anew as a whole: small, readable, and mended by hand if need be.
// Entries of VMs that are gone stay for good, so that no number is given twice.
#include "deploy/ledger.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace vmhost::deploy {

namespace {

using nlohmann::json;

constexpr std::size_t max_ledger_bytes = 16 << 20;

std::optional<Entry> entry_of(const json& line) {
    if (!line.is_object())
        return std::nullopt;
    Entry entry;
    auto number = line.find("number");
    if (number == line.end() || !number->is_number_unsigned() ||
        number->get<std::uint64_t>() > 1'000'000)
        return std::nullopt;
    entry.number = number->get<unsigned>();
    for (auto [key, field] : {std::pair("vm", &entry.vm), std::pair("user", &entry.user),
                              std::pair("order", &entry.order), std::pair("given", &entry.given),
                              std::pair("removed", &entry.removed)}) {
        auto found = line.find(key);
        if (found == line.end())
            continue;
        if (!found->is_string())
            return std::nullopt;
        *field = found->get<std::string>();
    }
    if (auto account = line.find("account"); account != line.end()) {
        if (!account->is_boolean())
            return std::nullopt;
        entry.account = account->get<bool>();
    }
    if (auto images = line.find("images"); images != line.end()) {
        if (!images->is_array())
            return std::nullopt;
        for (const auto& image : *images) {
            if (!image.is_string())
                return std::nullopt;
            entry.images.push_back(image.get<std::string>());
        }
    }
    if (entry.vm.empty())
        return std::nullopt;
    return entry;
}

} // namespace

Result<Ledger> Ledger::parse(std::string_view text, const std::string& file) {
    if (text.size() > max_ledger_bytes)
        return fail(ErrorKind::limit, "{} is too long", file);
    Ledger ledger;
    std::uint32_t number = 0;
    while (!text.empty()) {
        ++number;
        auto line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.empty())
            continue;
        auto entry = entry_of(json::parse(line, nullptr, false));
        if (!entry)
            return std::unexpected(Error(ErrorKind::corrupt, "this line is none of vmhost deploy's")
                                       .at({file, number, 1}));
        ledger.put(*std::move(entry));
    }
    return ledger;
}

std::string Ledger::text() const {
    std::string out;
    for (const auto& entry : entries_) {
        json line{{"number", entry.number},
                  {"vm", entry.vm},
                  {"user", entry.user},
                  {"order", entry.order},
                  {"given", entry.given}};
        if (!entry.removed.empty())
            line["removed"] = entry.removed;
        if (entry.account)
            line["account"] = true;
        if (!entry.images.empty())
            line["images"] = entry.images;
        out += line.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
    }
    return out;
}

const Entry* Ledger::find(std::string_view vm) const {
    auto found = std::ranges::find(entries_, vm, &Entry::vm);
    return found == entries_.end() ? nullptr : &*found;
}

const Entry* Ledger::of_order(std::string_view path) const {
    auto found = std::ranges::find_if(
        entries_, [&](const Entry& entry) { return entry.removed.empty() && entry.order == path; });
    return found == entries_.end() ? nullptr : &*found;
}

std::set<unsigned> Ledger::numbers() const {
    std::set<unsigned> out;
    for (const auto& entry : entries_)
        out.insert(entry.number);
    return out;
}

bool Ledger::made_account(std::string_view user) const {
    return std::ranges::any_of(
        entries_, [&](const Entry& entry) { return entry.account && entry.user == user; });
}

void Ledger::put(Entry entry) {
    auto found = std::ranges::find(entries_, entry.vm, &Entry::vm);
    if (found == entries_.end())
        entries_.push_back(std::move(entry));
    else
        *found = std::move(entry);
}

} // namespace vmhost::deploy
