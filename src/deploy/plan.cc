// What orders would change. Nothing is changed here, and nothing is left out once something is
// wrong: all complaints come together, each with its order's line.
//
// A VM that the file has is left as it is; where its order says something else, that is a
// complaint, or with --update a change. What makes a VM the one it is (number, addresses, owner,
// images) is never changed by an order.
#include <algorithm>
#include <cctype>

#include "deploy/compare.h"
#include "deploy/deploy.h"
#include "deploy/template.h"
#include "install/install.h"

namespace vmhost::deploy {

using config::Complaints;

namespace {

std::string place_text(const Place& place) {
    return fmt::format("{}:{}", printable(place.file), place.line);
}

std::string_view format_name(config::ImageFormat format) {
    return format == config::ImageFormat::raw ? "raw" : "qcow2";
}

// A VM to be made.
struct New {
    unsigned number = 0;
    std::optional<Mac> mac;
    std::optional<Ipv4> ipv4;
    std::optional<Ipv6> ipv6;
};

class Planner {
public:
    Planner(World& world, const Standing& standing, std::vector<Order> orders, const Wishes& wishes)
        : world_(world), standing_(standing), model_(standing.model), orders_(std::move(orders)),
          wishes_(wishes) {
        job_.file = model_.file;
        job_.before = job_.after = standing.text;
        job_.ledger = standing.ledger;
        job_.ledger_before = standing.ledger.text();
        job_.ledger_path = ledger_path(model_);
    }

    std::expected<Job, Complaints> run() {
        pass_over_removed();
        for (auto& order : orders_)
            std::ranges::move(order.warnings, std::back_inserter(job_.warnings));
        name_all();
        check_people();
        if (complaints_.empty())
            for (const auto& order : orders_)
                plan_one(order);
        check_addresses();
        if (complaints_.empty())
            disable_lost();
        if (complaints_.empty())
            check_result();
        if (!complaints_.empty())
            return std::unexpected(std::move(complaints_));
        order_steps();
        return std::move(job_);
    }

private:
    void complain(Place place, ErrorKind kind, std::string text) {
        complaints_.push_back(Error(kind, std::move(text)).at(std::move(place)));
    }
    void complain(Place place, const Error& error) {
        complain(std::move(place), error.kind(), error.text());
    }
    const config::Vm* standing_vm(const std::string& name) const { return model_.find_vm(name); }

    // An order may stay in its directory when its VM was removed: it is not made again by that.
    void pass_over_removed() {
        std::erase_if(orders_, [&](const Order& order) {
            auto entry = std::ranges::find_if(standing_.ledger.entries(), [&](const Entry& one) {
                return one.order == order.file && !one.removed.empty();
            });
            auto folder = order.file.substr(0, order.file.rfind('/'));
            if (entry == standing_.ledger.entries().end() || entry->user != order.username ||
                standing_vm(entry->vm) ||
                std::ranges::find(wishes_.directories, folder) == wishes_.directories.end())
                return false;
            job_.warnings.push_back(
                Error(ErrorKind::exists, fmt::format("{} was removed on {}: its order is passed "
                                                     "over; name it alone to make it again",
                                                     entry->vm, entry->removed))
                    .at(order.place("")));
            return true;
        });
    }

    // ---- names and numbers ----------------------------------------------------

    void name_all() {
        std::set<unsigned> used = standing_.ledger.numbers();
        used.insert(standing_.remembered.begin(), standing_.remembered.end());
        for (const auto& vm : model_.vms)
            if (auto number = number_of(vm.name))
                used.insert(*number);
        for (const auto& order : orders_)
            if (order.number)
                used.insert(*order.number);
        for (auto& order : orders_)
            if (order.vm.empty())
                name_one(order, used);
        std::map<std::string, const Order*> names;
        std::map<unsigned, const Order*> numbers;
        for (const auto& order : orders_) {
            if (order.vm.empty())
                continue;
            auto [first, fresh] = names.try_emplace(order.vm, &order);
            if (!fresh)
                complain(order.place(""), ErrorKind::exists,
                         fmt::format("{} is ordered by {} too", order.vm, first->second->file));
            auto [same, alone] = numbers.try_emplace(*order.number, &order);
            if (fresh && !alone)
                complain(order.place(""), ErrorKind::exists,
                         fmt::format("the number {} is that of {} too", *order.number,
                                     same->second->file));
            check_ledger(order);
            job_.vms.push_back(order.vm);
        }
    }
    void name_one(Order& order, std::set<unsigned>& used) {
        if (const auto* entry = standing_.ledger.of_order(order.file)) {
            order.vm = entry->vm;
            order.number = entry->number;
            return;
        }
        auto number = free_number(used);
        if (!number)
            return complain(order.place(""), number.error());
        used.insert(*number);
        order.number = *number;
        order.vm = fmt::format("vm{}", *number);
    }
    void check_ledger(const Order& order) {
        for (const auto& entry : standing_.ledger.entries())
            if (entry.number == *order.number && entry.vm != order.vm && !entry.order.empty())
                complain(order.place(""), ErrorKind::exists,
                         fmt::format("the number {} was given to {}", entry.number, entry.vm));
        const auto* entry = standing_.ledger.find(order.vm);
        if (entry == nullptr || entry->removed.empty() || standing_vm(order.vm))
            return;
        auto removed = parse_date(entry->removed);
        if (!removed)
            return complain(order.place(""), removed.error());
        auto until = *removed + std::chrono::days(model_.allocate.grace_days);
        if (entry->user != order.username && wishes_.today < until)
            complain(order.place(""), ErrorKind::busy,
                     fmt::format("{} of {} was removed on {}: its number is kept until {}",
                                 order.vm, entry->user, entry->removed, date_text(until)));
    }

    // ---- one person, one name, one key ---------------------------------------------

    void check_people() {
        std::map<std::string, const Order*> people;
        std::set<std::string> ordered(job_.vms.begin(), job_.vms.end());
        for (const auto& order : orders_) {
            auto [first, fresh] = people.try_emplace(order.username, &order);
            if (!fresh && !first->second->sshkey.same_key(order.sshkey))
                complain(order.place("username"), ErrorKind::exists,
                         fmt::format("\"{}\" has another key in {}: two people need two names",
                                     order.username, place_text(first->second->place("sshkey"))));
        }
        for (const auto& vm : model_.vms) {
            auto found = people.find(vm.owner.user);
            if (found == people.end() || ordered.contains(vm.name) || !vm.install ||
                vm.install->sshkey.empty())
                continue;
            auto key = parse_ssh_key(vm.install->sshkey);
            if (key && !key->same_key(found->second->sshkey))
                complain(found->second->place("username"), ErrorKind::exists,
                         fmt::format("\"{}\" owns {} at {} with another key: two people need two "
                                     "names",
                                     vm.owner.user, vm.name, place_text(vm.place)));
        }
    }

    // ---- one order ----------------------------------------------------------------------

    void plan_one(const Order& order) {
        if (const auto* vm = standing_vm(order.vm))
            plan_standing(order, *vm);
        else
            plan_new(order);
        if (model_.allocate.accounts)
            plan_account(order);
        note_in_ledger(order);
    }
    void note_in_ledger(const Order& order) {
        Entry entry{.number = *order.number,
                    .vm = order.vm,
                    .user = order.username,
                    .order = order.file,
                    .given = date_text(wishes_.today),
                    .account = made_.contains(order.username) ||
                               standing_.ledger.made_account(order.username)};
        if (const auto* before = standing_.ledger.find(order.vm)) {
            entry.given = before->given;
            for (const auto& image : before->images) // those that are put away already
                if (image.find(".removed-") != std::string::npos)
                    entry.images.push_back(image);
        } else if (standing_vm(order.vm)) {
            return; // it was not made by an order
        }
        job_.ledger.put(std::move(entry));
    }

    std::string host_name(const Order& order) const {
        const auto& domain =
            model_.allocate.domain.empty() ? model_.host.domain : model_.allocate.domain;
        if (order.hostname.find('.') != std::string::npos || domain.empty())
            return order.hostname;
        return order.hostname + "." + domain;
    }
    std::optional<New> allocate(const Order& order) {
        const auto& rules = model_.allocate;
        New given{
            .number = *order.number, .mac = order.mac, .ipv4 = order.ipv4, .ipv6 = order.ipv6};
        auto before = complaints_.size();
        auto take = [&](auto& field, const std::string& key, auto result) {
            if (result)
                field = *result;
            else
                complain(order.place(key), result.error().kind(),
                         fmt::format("{}: {}", order.vm, result.error().text()));
        };
        if (!given.mac && !rules.mac_prefix.empty())
            take(given.mac, "mac", mac_of(rules.mac_prefix, given.number));
        if (given.ipv4) {
            if (auto good = check_guest_address(model_, *given.ipv4); !good)
                complain(order.place("ipv4"), good.error());
        } else if (rules.ipv4_start) {
            take(given.ipv4, "ipv4", ipv4_of(model_, given.number));
        }
        // Without an IPv4 address of ours the number stands in its last group.
        if (!given.ipv6 && rules.ipv6_prefix && (given.ipv4 || !rules.ipv4_start))
            take(
                given.ipv6, "ipv6",
                ipv6_of(rules, given.number, given.ipv4 ? given.ipv4->value & 0xff : given.number));
        return complaints_.size() == before ? std::optional(given) : std::nullopt;
    }

    void plan_new(const Order& order) {
        auto given = allocate(order);
        auto start = find_template(order);
        if (!given || !start)
            return;
        const auto& rules = model_.allocate;
        auto memory = order.memory_bytes.value_or(rules.memory_bytes);
        auto format = *start ? config::ImageFormat::qcow2 : order.format.value_or(rules.format);
        std::string disks;
        auto add_disk = [&](const std::string& name, std::uint64_t bytes, const std::string& key,
                            const std::optional<DiskTemplate>& below) {
            // Relative to the state, where images are by default.
            auto file = fmt::format("{}.{}", name, format_name(format));
            auto path = image_path(model_, file);
            disks += fmt::format("{}{{ path = {}, format = \"{}\", size = \"{}\"{} }}",
                                 disks.empty() ? "" : ", ",
                                 config::toml_text(rules.images.empty() ? file : path),
                                 format_name(format), exact_size(bytes),
                                 below ? ", base = [" + config::toml_text(below->named) + "]" : "");
            plan_image(order.vm, path, format, bytes, below ? below->path : "", order.place(key),
                       true);
        };
        add_disk(order.vm, order.disk_bytes.value_or(rules.disk_bytes), "disk", *start);
        if (order.disk2_bytes)
            add_disk(order.vm + "-2", *order.disk2_bytes, "disk2", std::nullopt);

        auto table = fmt::format("# Ordered by {}\n[vm.{}]\n", printable(order.file), order.vm);
        auto add = [&](std::string_view key, const std::string& value) {
            table += fmt::format("{} = {}\n", key, value);
        };
        auto add_text = [&](std::string_view key, const std::string& value) {
            add(key, config::toml_text(value));
        };
        if (order.suspended.value_or(false))
            add("suspended", "true");
        add_text("owner", order.username);
        add_text("memory", exact_size(memory));
        if (order.cpus)
            add("vcpus", std::to_string(*order.cpus));
        if (!rules.boot.empty() && !*start) // a ready system is started by the BIOS
            add_text("boot", rules.boot);
        add("disk", "[" + disks + "]");
        if (!rules.switch_name.empty())
            add("interface", "[{ " + interface_text(*given) + " }]");
        table += fmt::format("\n[vm.{}.install]\n", order.vm);
        auto install = install_of(rules, order, start->has_value());
        // The files of some hold few characters: no comment of just anything, no such password.
        const bool any_text = install::holds_any_text(install.system);
        const auto key = any_text ? order.sshkey.text()
                                  : fmt::format("{} {}", order.sshkey.type, order.sshkey.base64);
        const auto password = any_text ? wishes_.password() : plain_password();
        install.hostname = host_name(order);
        install.user = order.username;
        install.sshkey = key + " " + password;
        install.password = install.root_password = password;
        table += config::install_lines(install);
        job_.after = config::with_tables(job_.after, table);

        auto addresses = fmt::format("{}{}{}", given->mac ? " " + given->mac->text() : "",
                                     given->ipv4 ? " " + given->ipv4->text() : "",
                                     given->ipv6 ? " " + given->ipv6->text() : "");
        job_.steps.push_back({.kind = Step::Kind::added,
                              .vm = order.vm,
                              .text = fmt::format("added for {}: {},{} {}", order.username,
                                                  exact_size(memory), addresses, host_name(order)),
                              .place = order.place("")});
        new_.emplace_back(&order, *given);
    }
    std::string plain_password() const {
        std::string out;
        while (out.size() < password_chars)
            for (char c : wishes_.password())
                if (std::isalnum(static_cast<unsigned char>(c)) && out.size() < password_chars)
                    out += c;
        return out;
    }
    // None: a complaint was made.
    std::optional<std::optional<DiskTemplate>> find_template(const Order& order) {
        auto found = template_of(world_, model_, standing_.ledger, order);
        const auto place = order.place("image");
        if (!found) {
            complain(place, found.error().kind(),
                     fmt::format("{}: image: {}", order.vm, found.error().text()));
            return std::nullopt;
        }
        if (!*found)
            return *std::move(found);
        const auto bytes = order.disk_bytes.value_or(model_.allocate.disk_bytes);
        if (order.format == config::ImageFormat::raw)
            complain(
                order.place("format"), ErrorKind::invalid,
                fmt::format("{}: a disk that begins as {} is qcow2", order.vm, (*found)->path));
        else if (bytes < (*found)->bytes)
            complain(order.lines.contains("disk") ? order.place("disk") : place, ErrorKind::limit,
                     fmt::format("{}: a disk of {} is too small for the {} of {}", order.vm,
                                 exact_size(bytes), exact_size((*found)->bytes), (*found)->path));
        else
            return *std::move(found);
        return std::nullopt;
    }
    std::string interface_text(const New& given) const {
        auto out = "switch = " + config::toml_text(model_.allocate.switch_name);
        if (given.mac)
            out += fmt::format(", lladdr = \"{}\"", given.mac->text());
        if (given.ipv4)
            out += fmt::format(", ipv4 = \"{}\"", given.ipv4->text());
        if (given.ipv6)
            out += fmt::format(", ipv6 = \"{}\"", given.ipv6->text());
        return out;
    }

    void plan_image(const std::string& vm, const std::string& path, config::ImageFormat format,
                    std::optional<std::uint64_t> wanted, const std::string& base,
                    const Place& place, bool fresh) {
        // What guests may have written is not looked into.
        if (!fresh && world_.exists(path))
            return;
        auto size = world_.image_size(path, format);
        auto warn = [&](std::string text) {
            job_.warnings.push_back(Error(ErrorKind::exists, std::move(text)).at(place));
        };
        if (!size && size.error().kind() == ErrorKind::not_found) {
            if (wanted)
                job_.steps.push_back(
                    {.kind = Step::Kind::image,
                     .vm = vm,
                     .path = path,
                     .format = format,
                     .bytes = *wanted,
                     .base = base,
                     .text = fmt::format("{} created (size {}{})", path, exact_size(*wanted),
                                         base.empty() ? "" : ", on " + base),
                     .place = place});
        } else if (!size) {
            warn(fmt::format("{}: the image {} is left as it is: {}", vm, path,
                             size.error().text()));
        } else if (wanted && *size != *wanted) {
            warn(fmt::format("{}: the image {} has {} and not {}: it is left as it is", vm, path,
                             exact_size(*size), exact_size(*wanted)));
        } else if (fresh && standing_.ledger.find(vm) == nullptr) {
            warn(fmt::format("{}: the image {} was there before: it is used as it is", vm, path));
        }
    }

    // ---- a VM that is there ---------------------------------------------------------------

    void plan_standing(const Order& order, const config::Vm& vm) {
        auto absolute = [&](const std::string& path) {
            return path.starts_with('/') ? path : model_.host.state + "/" + path;
        };
        for (const auto& disk : vm.disks)
            if (!disk.read_only && disk.size_bytes)
                plan_image(vm.name, absolute(disk.path),
                           disk.format != config::ImageFormat::automatic ? disk.format
                           : !disk.base.empty() || disk.path.ends_with(".qcow2")
                               ? config::ImageFormat::qcow2
                               : config::ImageFormat::raw,
                           disk.size_bytes, disk.base.empty() ? "" : absolute(disk.base.front()),
                           disk.place, false);
        compare(order, vm);
        if (!order.suspended)
            return;
        const auto text = *order.suspended ? "suspended" : "active again";
        if (*order.suspended != vm.suspended)
            change(order, vm, "state", {"vm", vm.name}, "suspended",
                   *order.suspended ? "true" : "false", text);
        // Its order may have been away.
        if (!*order.suspended && !vm.enabled)
            change(order, vm, "state", {"vm", vm.name}, "enable", "true", text);
    }
    void compare(const Order& order, const config::Vm& vm) {
        for (const auto& one : departures(order, vm, host_name(order))) {
            if (!one.table.empty() && wishes_.update) {
                change(order, vm, one.key, one.table, one.name, one.written,
                       fmt::format("{} {} -> {}", one.key, one.is, one.wanted));
                continue;
            }
            complain(order.place(one.key),
                     one.table.empty() ? ErrorKind::invalid : ErrorKind::exists,
                     fmt::format("{}: {} is {} at {} and {} in the order: {}", vm.name, one.key,
                                 one.is, place_text(vm.place), one.wanted,
                                 one.table.empty() ? "an order does not change it"
                                                   : "--update changes it"));
        }
    }
    void change(const Order& order, const config::Vm& vm, const std::string& key,
                const std::vector<std::string>& table, std::string_view name,
                const std::string& written, const std::string& text) {
        auto after = config::with_key(job_.after, table, name, written);
        if (!after)
            return complain(order.place(key), after.error());
        job_.after = *std::move(after);
        job_.steps.push_back(
            {.kind = Step::Kind::changed, .vm = vm.name, .text = text, .place = order.place(key)});
    }

    // ---- accounts ----------------------------------------------------------------------

    void plan_account(const Order& order) {
        if (!accounts_.insert(order.username).second)
            return;
        auto place = order.place("username");
        const auto& group =
            model_.allocate.group.empty() ? model_.control.owner.group : model_.allocate.group;
        auto account = world_.account(order.username);
        if (!account)
            return complain(place, account.error());
        auto add = [&](Step::Kind kind, std::string text) {
            Step step{.kind = kind, .vm = order.vm};
            step.name = kind == Step::Kind::group ? group : order.username;
            step.group = group;
            step.person = order.name;
            step.key = order.sshkey;
            step.text = std::move(text);
            step.place = place;
            job_.steps.push_back(std::move(step));
        };
        if (group.empty() && accounts_.size() == 1)
            job_.warnings.push_back(Error(ErrorKind::invalid,
                                          "neither allocate.group nor control.owner names a group: "
                                          "owners cannot use vmctl(8)")
                                        .at(model_.allocate.place));
        bool has_group = true;
        if (!group.empty()) {
            auto found = world_.has_group(group);
            if (!found)
                return complain(place, found.error());
            has_group = *found;
            if (!has_group && !std::exchange(group_planned_, true))
                add(Step::Kind::group, group);
        }
        if (!*account) {
            made_.insert(order.username);
            add(Step::Kind::account, order.username);
            return add(Step::Kind::key, fmt::format("{}: key of the order added", order.username));
        }
        constexpr uid_t first_person = 1000;
        bool owns = std::ranges::any_of(
            model_.vms, [&](const config::Vm& vm) { return vm.owner.user == order.username; });
        if ((*account)->uid < first_person ||
            (!standing_.ledger.made_account(order.username) && !owns))
            return complain(place, ErrorKind::exists,
                            fmt::format("\"{}\" is an account of this host that owns no VM: the "
                                        "order needs another name",
                                        order.username));
        if (!standing_.ledger.made_account(order.username))
            return; // made by somebody else, who looks after it
        if (!group.empty()) {
            auto member = has_group ? world_.is_member(**account, group) : false;
            if (!member)
                return complain(place, member.error());
            if (!*member)
                add(Step::Kind::member, fmt::format("{}: now in group {}", order.username, group));
        }
        auto key = world_.has_key(**account, order.sshkey);
        if (!key && key.error().kind() != ErrorKind::denied)
            return complain(place, key.error());
        if (!key || !*key)
            add(Step::Kind::key, fmt::format("{}: key of the order added", order.username));
    }

    // ---- all of them together ----------------------------------------------------------

    void check_addresses() {
        std::map<std::string, std::string> taken; // address → whose
        for (const auto& vm : model_.vms)
            for (const auto& wire : vm.interfaces) {
                auto whose = fmt::format("{} at {}", vm.name, place_text(wire.place));
                taken.emplace(wire.lladdr.text(), whose);
                if (wire.ipv4)
                    taken.emplace(wire.ipv4->text(), whose);
                if (wire.ipv6)
                    taken.emplace(wire.ipv6->text(), whose);
            }
        for (const auto& [order, given] : new_) {
            auto take = [&, order = order](const auto& address, const std::string& key) {
                if (!address)
                    return;
                auto [first, fresh] =
                    taken.try_emplace(address->text(), fmt::format("{} in {}", order->vm,
                                                                   place_text(order->place(key))));
                if (!fresh)
                    complain(order->place(key), ErrorKind::exists,
                             fmt::format("{}: {} is taken by {}", order->vm, address->text(),
                                         first->second));
            };
            take(given.mac, "mac");
            take(given.ipv4, "ipv4");
            take(given.ipv6, "ipv6");
        }
    }

    void disable_lost() {
        for (const auto& entry : standing_.ledger.entries()) {
            auto folder = entry.order.substr(0, entry.order.rfind('/'));
            const auto* vm = standing_vm(entry.vm);
            if (!entry.removed.empty() || vm == nullptr ||
                std::ranges::find(wishes_.directories, folder) == wishes_.directories.end() ||
                std::ranges::find(job_.vms, entry.vm) != job_.vms.end() ||
                world_.exists(entry.order))
                continue;
            job_.vms.push_back(entry.vm);
            if (!vm->enabled)
                continue;
            auto after = config::with_key(job_.after, {"vm", entry.vm}, "enable", "false");
            if (!after)
                return complain(vm->place, after.error());
            job_.after = *std::move(after);
            job_.steps.push_back(
                {.kind = Step::Kind::disabled,
                 .vm = entry.vm,
                 .text = fmt::format("disabled: its order {} is gone; vmhost undeploy removes it",
                                     printable(entry.order)),
                 .place = vm->place});
        }
    }

    // The file as it would be is one that the daemon takes, and installers get whole answers.
    void check_result() {
        if (job_.after == job_.before)
            return;
        auto result = config::parse(job_.after, job_.file);
        if (!result) {
            for (const auto& complaint : result.error())
                complain(place_of(complaint), complaint.kind(),
                         fmt::format("the file would be wrong then: {}", complaint.text()));
            return;
        }
        for (const auto& [order, given] : new_) {
            const auto* vm = result->find_vm(order->vm);
            if (vm == nullptr) {
                complain(order->place(""), ErrorKind::internal, order->vm + " is not in the file");
                continue;
            }
            if (vm->install)
                try_answers(*order, *result, *vm);
        }
    }
    // The order that is to blame, where one is. A complaint begins with "vm.NAME.KEY: ", "vm.NAME:
    // " or "vm "NAME": "; keys of the file that orders call otherwise are those of no line.
    Place place_of(const Error& complaint) const {
        static const std::map<std::string, std::string, std::less<>> names{
            {"vcpus", "cpus"}, {"lladdr", "mac"}, {"size", "disk"}, {"path", "image"}};
        const auto& text = complaint.text();
        const auto path = text.substr(0, text.find(':'));
        auto key = path.substr(path.rfind('.') + 1);
        if (auto name = names.find(key); name != names.end())
            key = path.find("disk[1]") == std::string::npos ? name->second : "disk2";
        for (const auto& order : orders_) {
            const auto before = "vm." + order.vm;
            if (path.starts_with(before + ".") || path == before ||
                path == fmt::format("vm \"{}\"", order.vm))
                return order.place(key);
        }
        return {job_.file, 0, 0};
    }
    void try_answers(const Order& order, const config::Model& model, const config::Vm& vm) {
        const bool upgrade = vm.install->mode == config::InstallMode::upgrade;
        auto read = [&](const std::string& path) {
            return world_.read(path.starts_with('/') ? path : model.host.state + "/" + path);
        };
        for (const auto& file : install::install_files(vm, upgrade)) {
            auto text = install::file_text(model, vm, upgrade, 1, file.name, read);
            if (!text) {
                complain(order.place(""), text.error());
                continue;
            }
            // An upgrade asks little, and none of what the linter knows.
            if (vm.install->system != config::InstallSystem::openbsd || upgrade ||
                file.use != install::FileUse::once)
                continue;
            for (const auto& doubt : install::lint_answers(*text))
                job_.warnings.push_back(
                    Error(doubt.kind(), fmt::format("{}: answers: {}", vm.name, doubt.text()))
                        .at(order.place("")));
        }
    }

    void order_steps() { std::ranges::stable_sort(job_.steps, {}, &Step::kind); }

    World& world_;
    const Standing& standing_;
    const config::Model& model_;
    std::vector<Order> orders_;
    const Wishes& wishes_;
    Job job_;
    Complaints complaints_;
    std::vector<std::pair<const Order*, New>> new_;
    std::set<std::string> accounts_; // that were looked at
    std::set<std::string> made_;     // those that are to be made
    bool group_planned_ = false;
};

} // namespace

std::expected<Job, Complaints> plan(World& world, const Standing& standing,
                                    std::vector<Order> orders, const Wishes& wishes) {
    return Planner(world, standing, std::move(orders), wishes).run();
}

} // namespace vmhost::deploy
