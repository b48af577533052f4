// The steps of a job, and what surrounds them: what stands before, and tidying up behind.
//
// The ledger goes first: from then on an account or an image of that name is known to be ours, and
// the number is taken. The file goes last: before it no VM is there, whatever else is.
#include <algorithm>

#include "deploy/deploy.h"
#include "store/store.h"

namespace vmhost::deploy {

using config::Complaints;

namespace {

Complaints one(Error error) {
    Complaints complaints;
    complaints.push_back(std::move(error));
    return complaints;
}

// Digits at the end of names that the daemon remembers, to see which numbers were somebody's.
std::set<unsigned> remembered_numbers(const config::Model& model) {
    std::set<unsigned> out;
    auto store = store::HostStore::open_to_look(model.host.state, model.host.name);
    if (!store)
        return out; // there is none yet, or it is not ours to read
    auto machines = store->machines();
    if (!machines)
        return out;
    for (const auto& machine : *machines)
        if (auto number = number_of(machine.name))
            out.insert(*number);
    return out;
}

Result<void> take(World& world, const Step& step, const config::Model& model) {
    using Kind = Step::Kind;
    switch (step.kind) {
    case Kind::group:
        return world.add_group(step.name);
    case Kind::account:
        return world.add_account({.name = step.name,
                                  .group = step.group,
                                  .shell = model.allocate.shell,
                                  .person = step.person});
    case Kind::member:
        return world.add_member(step.name, step.group);
    case Kind::key: {
        auto account = TRY(world.account(step.name));
        if (!account)
            return fail(ErrorKind::not_found, "there is no account \"{}\"", step.name);
        return world.add_key(*account, *step.key);
    }
    case Kind::image:
        return world.create_image(step.path, step.format, step.bytes, step.base);
    case Kind::no_account:
        return world.remove_account(step.name);
    default:
        return {}; // of the file, which is written as a whole
    }
}

bool is_of_file(const Step& step) {
    return step.kind >= Step::Kind::added && step.kind <= Step::Kind::removed;
}

constexpr std::string_view put_away = ".removed-";

} // namespace

std::string ledger_path(const config::Model& model) {
    return model.host.state + "/deployed";
}

std::string lock_path(const config::Model& model) {
    return model.host.state + "/deploy.lock";
}

std::string date_text(std::chrono::sys_days day) {
    std::chrono::year_month_day date(day);
    return fmt::format("{:04}-{:02}-{:02}", static_cast<int>(date.year()),
                       static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
}

std::string password_of(const std::function<std::uint8_t()>& next_byte) {
    constexpr unsigned first = 33, count = 126 - 33 + 1;
    constexpr unsigned fair = 256 / count * count; // bytes from here on would favour some
    std::string out;
    while (out.size() < password_chars)
        if (unsigned byte = next_byte(); byte < fair)
            out += static_cast<char>(first + byte % count);
    return out;
}

std::string new_password() {
    return password_of([] { return random_number<std::uint8_t>(); });
}

std::expected<Standing, Complaints> look(World& world, const std::string& file) {
    Standing standing;
    auto text = world.read(file);
    if (!text)
        return std::unexpected(one(std::move(text).error()));
    standing.text = *std::move(text);
    auto model = config::parse(standing.text, file);
    if (!model)
        return std::unexpected(std::move(model).error());
    standing.model = *std::move(model);
    auto path = ledger_path(standing.model);
    auto lines = world.read(path);
    if (!lines && lines.error().kind() != ErrorKind::not_found)
        return std::unexpected(one(std::move(lines).error()));
    auto ledger = Ledger::parse(lines ? *lines : std::string(), path);
    if (!ledger)
        return std::unexpected(one(std::move(ledger).error()));
    standing.ledger = *std::move(ledger);
    standing.remembered = remembered_numbers(standing.model);
    return standing;
}

Result<void> carry_out(World& world, const Job& job, const Told& told) {
    auto model = config::parse(job.before, job.file);
    if (!model)
        return std::unexpected(std::move(model).error().front());
    if (auto text = job.ledger.text(); text != job.ledger_before)
        TRY(world.replace(job.ledger_path, text));
    for (const auto& step : job.steps) {
        if (is_of_file(step) || step.kind == Step::Kind::no_account)
            continue;
        if (auto done = take(world, step, *model); !done)
            return std::unexpected(std::move(done).error().in(step.vm));
        told(step);
    }
    if (job.after != job.before) {
        // Editors know nothing of our lock.
        if (TRY(world.read(job.file)) != job.before)
            return fail(ErrorKind::busy, "{} has changed meanwhile: try again", job.file);
        TRY(world.replace(job.file, job.after));
    }
    for (const auto& step : job.steps)
        if (is_of_file(step))
            told(step);
    for (const auto& step : job.steps) {
        if (step.kind != Step::Kind::no_account)
            continue;
        if (auto done = take(world, step, *model); !done)
            return std::unexpected(std::move(done).error().in(step.vm));
        told(step);
    }
    return {};
}

std::expected<Job, Complaints> plan_removal(World& world, const Standing& standing,
                                            const std::vector<std::string>& vms, bool accounts,
                                            std::chrono::sys_days today) {
    const auto& model = standing.model;
    Complaints complaints;
    Job job;
    job.file = model.file;
    job.before = job.after = standing.text;
    job.ledger = standing.ledger;
    job.ledger_before = standing.ledger.text();
    job.ledger_path = ledger_path(model);
    auto complain = [&](Place place, ErrorKind kind, std::string text) {
        complaints.push_back(Error(kind, std::move(text)).at(std::move(place)));
    };
    auto absolute = [&](const std::string& path) {
        return path.starts_with('/') ? path : model.host.state + "/" + path;
    };
    auto goes = [&](const std::string& name) { return std::ranges::find(vms, name) != vms.end(); };
    auto remove = [&](const config::Vm& vm) {
        // Others may have disks on those that it only reads.
        std::set<std::string> images;
        for (const auto& disk : vm.disks)
            if (!disk.read_only)
                images.insert(absolute(disk.path));
        for (const auto& other : model.vms) {
            if (goes(other.name))
                continue;
            if (other.instance_of == vm.name)
                complain(other.place, ErrorKind::busy,
                         fmt::format("{} is an instance of {}", other.name, vm.name));
        }
        auto after = config::without_vm(job.after, vm.name);
        if (!after)
            return complain(vm.place, after.error().kind(), after.error().text());
        job.after = *std::move(after);
        Entry entry{.vm = vm.name, .user = vm.owner.user, .given = date_text(today)};
        if (const auto* before = standing.ledger.find(vm.name))
            entry = *before;
        else
            entry.number = number_of(vm.name).value_or(0);
        entry.removed = date_text(today);
        for (const auto& image : images)
            if (std::ranges::find(entry.images, image) == entry.images.end())
                entry.images.push_back(image);
        job.ledger.put(std::move(entry));
        job.steps.push_back(
            {.kind = Step::Kind::removed,
             .vm = vm.name,
             .text = fmt::format("removed; its images are kept until {}",
                                 date_text(today + std::chrono::days(model.allocate.grace_days))),
             .place = vm.place});
    };
    std::set<std::string> users;
    for (const auto& name : vms) {
        job.vms.push_back(name);
        const auto* entry = standing.ledger.find(name);
        if (const auto* vm = model.find_vm(name)) {
            users.insert(vm->owner.user);
            remove(*vm);
        } else if (entry != nullptr && !entry->removed.empty()) {
            users.insert(entry->user); // cut off the last time, perhaps
        } else {
            complain({model.file, 0, 0}, ErrorKind::not_found,
                     fmt::format("there is no VM \"{}\" in the file", printable(name, 70)));
        }
    }
    for (const auto& user : users) {
        bool owns = std::ranges::any_of(model.vms, [&](const config::Vm& vm) {
            return !goes(vm.name) && vm.owner.user == user;
        });
        if (!accounts || owns || !standing.ledger.made_account(user))
            continue;
        auto account = world.account(user);
        if (!account)
            complain({model.file, 0, 0}, account.error().kind(), account.error().text());
        else if (*account)
            job.steps.push_back(
                {.kind = Step::Kind::no_account, .vm = user, .name = user, .text = user});
    }
    if (complaints.empty() && job.after != job.before)
        if (auto result = config::parse(job.after, job.file); !result)
            for (const auto& complaint : result.error())
                complain({job.file, 0, 0}, complaint.kind(),
                         fmt::format("the file would be wrong then: {}", complaint.text()));
    if (!complaints.empty())
        return std::unexpected(std::move(complaints));
    return job;
}

Result<std::vector<std::string>> tidy(World& world, const std::string& file,
                                      std::chrono::sys_days today) {
    std::vector<std::string> lines;
    auto standing = look(world, file);
    if (!standing)
        return std::unexpected(std::move(standing).error().front());
    auto ledger = standing->ledger;
    const auto grace = std::chrono::days(standing->model.allocate.grace_days);
    for (auto& entry : ledger.entries()) {
        std::vector<std::string> left;
        for (auto& image : entry.images) {
            auto at = image.rfind(put_away);
            if (at == std::string::npos) {
                if (entry.removed.empty() || standing->model.find_vm(entry.vm)) {
                    left.push_back(image);
                    continue;
                }
                auto away = fmt::format("{}{}{}", image, put_away, entry.removed);
                if (world.exists(image) && !world.exists(away)) {
                    TRY(world.rename(image, away));
                    lines.push_back(fmt::format("{} {} kept as {}", entry.vm, image, away));
                }
                if (world.exists(away))
                    left.push_back(std::move(away));
                continue;
            }
            auto since = parse_date(std::string_view(image).substr(at + put_away.size()));
            if (!since || *since + grace > today) {
                left.push_back(image);
                continue;
            }
            if (world.exists(image)) {
                TRY(world.remove(image));
                lines.push_back(fmt::format("{} {} removed", entry.vm, image));
            }
        }
        entry.images = std::move(left);
        // Whoever has the name after this got it from somebody else.
        if (entry.account && !entry.removed.empty() && !TRY(world.account(entry.user)))
            entry.account = false;
    }
    if (ledger.text() != standing->ledger.text())
        TRY(world.replace(ledger_path(standing->model), ledger.text()));
    return lines;
}

} // namespace vmhost::deploy
