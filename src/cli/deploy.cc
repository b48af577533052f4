// vmhost deploy and undeploy: orders become VMs, and VMs go. What there is to do is planned by
// deploy/; here it is shown, agreed on, carried out, and told to the daemon.
//
// The daemon is asked before anything is written: a file with changes of somebody else that it has
// not got yet is theirs to apply. It is asked again at the end whatever was written, so that a run
// that was cut off before is made good by the next one.
#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

#include "cli/asking.h"
#include "cli/host_keys.h"
#include "cli/new_vm.h"
#include "cli/text_diff.h"
#include "deploy/deploy.h"

namespace vmhost::cli {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// ---- orders ---------------------------------------------------------------------------

bool is_order(const fs::path& path) {
    auto name = path.filename().string();
    return !name.starts_with('.') &&
           (name.ends_with(".txt") || name.ends_with(".toml") || name.ends_with(".eml"));
}

std::string absolute(const std::string& path) {
    std::error_code error;
    auto full = fs::absolute(path, error).lexically_normal().string();
    while (full.size() > 1 && full.ends_with('/'))
        full.pop_back();
    return error ? path : full;
}

struct Named {
    std::vector<std::string> files, directories;
};

// Files as they were named, and those in directories, vm2 before vm10.
Result<Named> find_orders(const std::vector<std::string>& named) {
    Named out;
    for (const auto& name : named) {
        auto path = absolute(name);
        std::error_code error;
        if (!fs::is_directory(path, error)) {
            out.files.push_back(path);
            continue;
        }
        out.directories.push_back(path);
        std::vector<std::string> inside;
        for (fs::directory_iterator entry(path, error), end; !error && entry != end;
             entry.increment(error))
            if (is_order(entry->path()))
                inside.push_back(entry->path().string());
        if (error)
            return fail(ErrorKind::io, "{}: {}", printable(path), error.message());
        if (inside.size() > limits::max_vms)
            return fail(ErrorKind::limit, "{} has more than {} orders", printable(path),
                        limits::max_vms);
        std::ranges::sort(inside, [](const std::string& a, const std::string& b) {
            return ::strverscmp(a.c_str(), b.c_str()) < 0;
        });
        out.files.insert(out.files.end(), inside.begin(), inside.end());
    }
    std::vector<std::string> once;
    for (auto& file : out.files)
        if (std::ranges::find(once, file) == once.end())
            once.push_back(std::move(file));
    out.files = std::move(once);
    return out;
}

Result<std::string> read_order(const std::string& path) {
    auto file = TRY(open_for_daemon(path, O_RDONLY));
    std::string text(deploy::limits::max_order_bytes + 1, '\0');
    std::size_t have = 0;
    while (have < text.size()) {
        auto count = ::read(file.get(), text.data() + have, text.size() - have);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "{}", printable(path));
        if (count == 0)
            break;
        have += static_cast<std::size_t>(count);
    }
    text.resize(have);
    return text;
}

// ---- what is said ---------------------------------------------------------------------

json object_of(const Error& error) {
    return {{"file", error.place().file},
            {"line", error.place().line},
            {"kind", std::string(name_of(error.kind()))},
            {"error", error.text()}};
}

std::string indented(const json& object) {
    return object.dump(2, ' ', false, json::error_handler_t::replace);
}

int complain_of(const config::Complaints& complaints, bool as_json) {
    if (as_json) {
        auto list = json::array();
        for (const auto& complaint : complaints)
            list.push_back(object_of(complaint));
        std::printf("%s\n", indented({{"ok", false}, {"complaints", list}}).c_str());
    } else {
        for (const auto& complaint : complaints)
            std::fprintf(stderr, "%s\n", complaint.message().c_str());
    }
    return 1;
}

int complain_of(Error error, bool as_json) {
    config::Complaints complaints;
    complaints.push_back(std::move(error));
    return complain_of(complaints, as_json);
}

using Kind = deploy::Step::Kind;

std::string_view kind_text(Kind kind) {
    constexpr std::string_view names[] = {"group", "account", "member",   "key",     "image",
                                          "added", "changed", "disabled", "removed", "no_account"};
    return names[static_cast<std::size_t>(kind)];
}

// "+ vm13: added for alice: …  orders/vm13.txt:1"
void print_step(const deploy::Step& step) {
    char sign = step.kind == Kind::removed || step.kind == Kind::no_account ? '-'
                : step.kind == Kind::changed || step.kind == Kind::disabled ? '~'
                                                                            : '+';
    auto place = step.place.line == 0
                     ? std::string()
                     : fmt::format("  {}:{}", printable(step.place.file), step.place.line);
    auto what = step.kind == Kind::group        ? "group " + step.text
                : step.kind == Kind::account    ? "account " + step.text
                : step.kind == Kind::no_account ? "account " + step.text
                : step.kind == Kind::image      ? "image " + step.text
                                                : step.text;
    std::printf("%c %s: %s%s\n", sign, step.vm.c_str(), what.c_str(), place.c_str());
}

// In groups, as the scripts that people know do.
class Progress {
public:
    explicit Progress(bool quiet) : quiet_(quiet) {}
    void tell(const deploy::Step& step) {
        bool account = step.kind < Kind::image || step.kind == Kind::no_account;
        std::string head = step.kind == Kind::group        ? "groupadd(8) creation:"
                           : step.kind == Kind::no_account ? "userdel(8) removal:"
                           : account                       ? "useradd(8) creation:"
                           : step.kind == Kind::image      ? "vmm(4)/vmd(8) files:"
                                                           : "vmhost.toml(5):";
        say(head, account ? step.text : fmt::format("{} {}", step.vm, step.text));
    }
    void say(const std::string& head, const std::string& line) {
        if (quiet_)
            return;
        if (std::exchange(head_, head) != head)
            std::printf("%s\n", head.c_str());
        std::printf("    %s\n", line.c_str());
        std::fflush(stdout);
    }

private:
    bool quiet_;
    std::string head_;
};

// ---- the daemon -----------------------------------------------------------------------

class Daemon {
public:
    // Without one there is nobody to tell.
    static Result<Daemon> find(const Command& command, const config::Model& model) {
        Daemon daemon;
        daemon.file_ = absolute(command.config);
        auto client =
            control::Client::connect(command.socket_given ? command.socket : model.control.socket);
        if (client)
            daemon.client_ = std::make_unique<control::Client>(*std::move(client));
        else if (client.error().kind() == ErrorKind::denied)
            return std::unexpected(std::move(client).error());
        return daemon;
    }
    bool is_there() const { return client_ != nullptr; }

    // What it has not got of the file, besides these VMs: the first of it, as a text.
    Result<std::string> of_others(const std::vector<std::string>& vms) {
        auto plan = TRY(ask(*client_, {{"verb", "plan"}, {"file", file_}}));
        for (const auto& change : plan.at("changes")) {
            const auto& subject = change.at("subject").get_ref<const std::string&>();
            bool ours = std::ranges::any_of(
                vms, [&](const std::string& vm) { return subject == "vm " + vm; });
            // What has changed on the machine is put right by any apply.
            if (!ours && change.at("reason").get_ref<const std::string&>().empty())
                return fmt::format("{} {}", subject, change.at("key").get<std::string>());
        }
        digest_ = plan.at("digest");
        changes_ = plan.at("changes").size();
        refused_ = plan.at("refused").get<std::string>();
        return std::string();
    }
    // Guests that run go on as they are.
    Result<void> apply(Progress& progress) {
        if (changes_ == 0)
            return {};
        if (!refused_.empty())
            return fail(ErrorKind::invalid, "the daemon refuses the file: {}", refused_);
        json request{{"verb", "apply"}, {"file", file_}, {"digest", digest_}, {"restart", false}};
        TRY(client_->request(compact(request), [&](const control::Client::Answer& reply) {
            auto step = json::parse(reply.json, nullptr, false);
            if (step.is_object() && step.contains("text"))
                progress.say("vmhost(8):", step["text"].get<std::string>());
        }));
        return {};
    }
    // Those of them that run are asked to end.
    Result<void> stop(const std::vector<std::string>& vms, Progress& progress) {
        if (vms.empty())
            return {};
        auto status = TRY(ask(*client_, {{"verb", "status"}, {"vm", ""}}));
        for (const auto& row : status.at("vms")) {
            auto name = row.at("name").get<std::string>();
            if (!row.at("pid").is_number() || std::ranges::find(vms, name) == vms.end())
                continue;
            TRY(ask(*client_, {{"verb", "stop"}, {"vm", name}}));
            progress.say("vmhost(8):", fmt::format("vm {}: asked to end", name));
        }
        return {};
    }

private:
    std::unique_ptr<control::Client> client_;
    std::string file_, digest_, refused_;
    std::size_t changes_ = 0;
};

// ---- both -----------------------------------------------------------------------------

std::chrono::sys_days today() {
    return std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now());
}

// Nobody else deploys meanwhile.
Result<deploy::Lock> take_lock(const config::Model& model) {
    auto path = deploy::lock_path(model);
    auto lock = deploy::Lock::take(path, false);
    if (lock || lock.error().kind() != ErrorKind::busy)
        return lock;
    std::fprintf(stderr, "vmhost: waiting for another vmhost deploy\n");
    return deploy::Lock::take(path, true);
}

void show(const Command& command, const deploy::Job& job) {
    if (command.json)
        return;
    for (const auto& warning : job.warnings) {
        const auto& place = warning.place();
        auto at = place.line == 0 ? std::string()
                                  : fmt::format("{}:{}: ", printable(place.file), place.line);
        std::fprintf(stderr, "%swarning: %s\n", at.c_str(), warning.text().c_str());
    }
    if (!command.dry_run && command.yes)
        return; // what is done is told
    for (const auto& step : job.steps)
        print_step(step);
    if (command.dry_run && job.after != job.before)
        std::printf("\n%s would change:\n%s", command.config.c_str(),
                    text_diff(job.before, job.after).c_str());
}

void print_result(const deploy::Job& job, bool dry_run, bool told) {
    auto steps = json::array(), warnings = json::array();
    for (const auto& step : job.steps)
        steps.push_back({{"kind", std::string(kind_text(step.kind))},
                         {"vm", step.vm},
                         {"text", step.text},
                         {"file", step.place.file},
                         {"line", step.place.line}});
    for (const auto& warning : job.warnings)
        warnings.push_back(object_of(warning));
    std::printf("%s\n", indented({{"ok", true},
                                  {"dry_run", dry_run},
                                  {"vms", job.vms},
                                  {"steps", steps},
                                  {"warnings", warnings},
                                  {"daemon", told}})
                            .c_str());
}

// Their keys are made when the daemon arms them.
bool publish_new(const Command& command, const deploy::Job& job, bool has_daemon) {
    std::vector<std::string> added;
    for (const auto& step : job.steps)
        if (step.kind == Kind::added)
            added.push_back(step.vm);
    if (added.empty() || !has_daemon)
        return true;
    auto model = config::load(command.config);
    if (!model) // which was applied a moment ago
        return complain("vmhost", model.error().front()) == 0;
    return publish_host_keys(*model, added, deploy::Publish::update);
}

// From a job to a host that is so. suspended: VMs that are not to run.
int finish_job(const Command& command, deploy::World& world, const config::Model& model,
               const deploy::Job& job, const std::vector<std::string>& suspended) {
    show(command, job);
    if (command.dry_run) {
        if (command.json)
            print_result(job, true, false);
        else if (job.steps.empty())
            std::puts("nothing to do");
        return 0;
    }
    auto daemon = Daemon::find(command, model);
    if (!daemon)
        return complain_of(std::move(daemon).error(), command.json);
    if (daemon->is_there()) {
        auto others = daemon->of_others(job.vms);
        if (!others)
            return complain_of(std::move(others).error(), command.json);
        if (!others->empty())
            return complain_of(
                Error(ErrorKind::busy,
                      fmt::format("the file has changes that the running host has not got ({}): "
                                  "vmhost plan shows them, vmhost apply makes them first",
                                  *others)),
                command.json);
    }
    if (!job.steps.empty() && !command.yes) {
        auto yes = agreed("do this?", "does it");
        if (!yes)
            return complain_of(std::move(yes).error(), command.json);
        if (!*yes) {
            std::puts("nothing was changed");
            return 1;
        }
    }
    Progress progress(command.json);
    auto told = [&](const deploy::Step& step) { progress.tell(step); };
    if (!job.nothing_to_do())
        if (auto done = deploy::carry_out(world, job, told); !done)
            return complain_of(std::move(done).error(), command.json);
    if (daemon->is_there()) {
        auto others = daemon->of_others(job.vms);
        if (others && !others->empty())
            others = fail(ErrorKind::busy, "{} has changed meanwhile: vmhost apply", *others);
        if (!others)
            return complain_of(std::move(others).error(), command.json);
        if (auto applied = daemon->apply(progress); !applied)
            return complain_of(std::move(applied).error().in("apply"), command.json);
        if (auto stopped = daemon->stop(suspended, progress); !stopped)
            return complain_of(std::move(stopped).error(), command.json);
    } else if (!job.steps.empty()) {
        std::fprintf(stderr, "vmhost: no daemon runs here: vmhost run brings the VMs up\n");
    }
    auto tidied = deploy::tidy(world, command.config, today());
    if (!tidied)
        return complain_of(std::move(tidied).error(), command.json);
    for (const auto& line : *tidied)
        progress.say("vmm(4)/vmd(8) files:", line);
    if (command.json)
        print_result(job, false, daemon->is_there());
    return publish_new(command, job, daemon->is_there()) ? 0 : 1;
}

// Orders that are older than a year, by their dates.
int list_due(const Command& command, const std::vector<deploy::Order>& orders) {
    std::vector<json> rows;
    for (const auto& order : orders) {
        auto date = deploy::parse_date(order.date);
        if (!date)
            continue;
        std::chrono::year_month_day day(*date);
        auto next = day + std::chrono::years(1);
        if (!next.ok()) // of a leap day
            next = next.year() / next.month() / std::chrono::last;
        if (std::chrono::sys_days(next) > today())
            continue;
        rows.push_back({{"vm", order.vm.empty() ? order.file : order.vm},
                        {"due", deploy::date_text(next)},
                        {"username", order.username},
                        {"name", order.name},
                        {"email", order.email}});
    }
    std::ranges::stable_sort(rows, {},
                             [](const json& row) { return row.at("due").get<std::string>(); });
    if (command.json) {
        std::printf("%s\n", indented(json(rows)).c_str());
        return 0;
    }
    for (const auto& row : rows)
        std::printf("%-10s  %-12s  %-16s  %s <%s>\n", row["due"].get<std::string>().c_str(),
                    printable(row["vm"].get<std::string>(), 80).c_str(),
                    row["username"].get<std::string>().c_str(),
                    printable(row["name"].get<std::string>(), 80).c_str(),
                    row["email"].get<std::string>().c_str());
    return 0;
}

// What a deploy and a removal start from. The lock is taken before anything is looked at, unless
// nothing will be written.
struct Begun {
    std::unique_ptr<deploy::World> world;
    std::optional<deploy::Lock> lock;
    deploy::Standing standing;
};
// Nothing: what is wrong has been told.
std::optional<Begun> begin(const Command& command) {
    auto model = load_config(command);
    if (!model)
        return std::nullopt;
    Begun begun{deploy::this_host(), std::nullopt, {}};
    if (!command.dry_run) {
        auto taken = take_lock(*model);
        if (!taken) {
            complain_of(std::move(taken).error(), command.json);
            return std::nullopt;
        }
        begun.lock = *std::move(taken);
    }
    auto standing = deploy::look(*begun.world, command.config);
    if (!standing) {
        complain_of(standing.error(), command.json);
        return std::nullopt;
    }
    begun.standing = *std::move(standing);
    return begun;
}

} // namespace

int run_deploy(const Command& command) {
    auto named = find_orders(command.names);
    if (!named)
        return complain_of(std::move(named).error(), command.json);
    std::vector<deploy::Order> orders;
    config::Complaints complaints;
    for (const auto& file : named->files) {
        auto text = read_order(file);
        if (!text) {
            complaints.push_back(std::move(text).error());
            continue;
        }
        if (auto order = deploy::parse_order(*text, file))
            orders.push_back(*std::move(order));
        else
            std::ranges::move(order.error(), std::back_inserter(complaints));
    }
    if (!complaints.empty())
        return complain_of(complaints, command.json);
    if (command.due)
        return list_due(command, orders);

    auto begun = begin(command);
    if (!begun)
        return 1;
    deploy::Wishes wishes{.update = command.update,
                          .today = today(),
                          .password = deploy::new_password,
                          .directories = named->directories};
    std::vector<std::string> suspended;
    for (const auto& order : orders)
        if (order.suspended.value_or(false) && !order.vm.empty())
            suspended.push_back(order.vm);
    auto job = deploy::plan(*begun->world, begun->standing, std::move(orders), wishes);
    if (!job)
        return complain_of(job.error(), command.json);
    return finish_job(command, *begun->world, begun->standing.model, *job, suspended);
}

int run_undeploy(const Command& command) {
    auto begun = begin(command);
    if (!begun)
        return 1;
    auto job = deploy::plan_removal(*begun->world, begun->standing, command.names,
                                    command.remove_account, today());
    if (!job)
        return complain_of(job.error(), command.json);
    const auto status = finish_job(command, *begun->world, begun->standing.model, *job, {});
    // By the file as it was: they are not in it any more.
    if (status != 0 || command.dry_run)
        return status;
    return publish_host_keys(begun->standing.model, command.names, deploy::Publish::remove) ? 0 : 1;
}

} // namespace vmhost::cli
