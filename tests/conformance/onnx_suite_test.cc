// ONNX's backend suite as a conformance test: one table row per model.
//
// out_of_scope.txt says what Octet does not do, and why: such a model must be refused with
// UNIMPLEMENTED and a message that names the operator or type. It also lists models whose stored
// outputs are wrong: they must run and differ. failing.txt lists models that should pass and do not
// yet; one that passes must leave it. OCTET_CONFORMANCE_FILTER runs the models whose name contains
// its value, OCTET_CONFORMANCE_DATA names another folder of models, which all must pass.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/program.h"
#include "engine/test_util.h"
#include "tests/conformance/suite_model.h"

namespace octet::conformance {
namespace {

const char kFolder[] = OCTET_SOURCE_DIR "/tests/conformance/";

bool HasOtherData() { return std::getenv("OCTET_CONFORMANCE_DATA") != nullptr; }

std::vector<std::string> ReadLines(const std::string& file) {
  std::vector<std::string> lines;
  std::ifstream in(kFolder + file);
  EXPECT_TRUE(in.good()) << kFolder << file;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  return lines;
}

// One line of out_of_scope.txt: "operator NAME | reason", "type NAME | reason", "model NAME |
// reason" or "data NAME | reason" (of a model); a trailing * stands for any rest.
struct Exclusion {
  std::string kind, pattern, reason;
  mutable bool used = false;

  bool Matches(const std::string& text) const {
    if (!absl::EndsWith(pattern, "*")) return text == pattern;
    return absl::StartsWith(text, absl::string_view(pattern).substr(0, pattern.size() - 1));
  }
};

std::vector<Exclusion> ReadExclusions() {
  std::vector<Exclusion> exclusions;
  for (const std::string& line : ReadLines("out_of_scope.txt")) {
    const std::vector<std::string> parts = absl::StrSplit(line, " | ");
    const std::vector<std::string> head = absl::StrSplit(parts[0], ' ');
    EXPECT_TRUE(parts.size() == 2 && head.size() == 2) << "out_of_scope.txt: " << line;
    if (parts.size() == 2 && head.size() == 2) exclusions.push_back({head[0], head[1], parts[1]});
  }
  return exclusions;
}

// Why a model is out of scope ("": it is not), and the words of which a refusal must contain one:
// its operators and the listed types.
struct Verdict {
  std::string reason;
  bool wrong_data = false;  // it is in scope, but its stored outputs are wrong
  std::set<std::string> subjects;
};

Verdict Judge(const SuiteModel& model, const std::vector<Exclusion>& exclusions) {
  Verdict verdict;
  for (const std::string& op : model.operators)
    verdict.subjects.insert(op.substr(op.rfind('.') + 1));
  const auto apply = [&](const Exclusion& e, const std::set<std::string>& names) {
    for (const std::string& name : names) {
      if (!e.Matches(name)) continue;
      e.used = true;
      if (verdict.reason.empty()) verdict.reason = e.reason;
      if (e.kind == "type") verdict.subjects.insert(name);
      if (e.kind == "data") verdict.wrong_data = true;
    }
  };
  for (const Exclusion& e : exclusions) {
    const bool by_name = e.kind == "model" || e.kind == "data";
    apply(e, by_name ? std::set{model.name} : e.kind == "operator" ? model.operators : model.types);
  }
  return verdict;
}

// "" when the elements agree: integers exactly; f32 and f64 within the suite's own rtol 1e-3 and
// twice its atol 1e-7 (some stored zeros are off by 2e-7); 16-bit floats within three digits. Other
// data chains convolutions and rounds 16-bit floats several times: 1e-5, and half a percent.
std::string Compare(const Tensor& found, const Tensor& stored) {
  Tensor expected = stored;
  if (found.dtype() == DType::kBF16 &&
      stored.dtype() == DType::kU16) {  // numpy has no bf16: the suite stores its bits
    expected =
        Tensor::FromValues<uint16_t>(DType::kBF16, stored.shape(), stored.ToVector<uint16_t>());
  }
  if (found.dtype() != expected.dtype()) {
    return absl::StrCat("output is ", NameOf(found.dtype()), ", expected ",
                        NameOf(expected.dtype()));
  }
  if (found.shape() != expected.shape()) {
    return absl::StrCat("output has shape ", ShapeString(found.shape()), ", expected ",
                        ShapeString(expected.shape()));
  }
  if (!IsFloat(expected.dtype())) {
    const std::vector<int64_t> e = expected.ToS64(), f = found.ToS64();
    for (size_t k = 0; k < e.size(); ++k) {
      if (e[k] != f[k]) return absl::StrCat("element ", k, " is ", f[k], ", expected ", e[k]);
    }
    return "";
  }
  const std::vector<double> e = expected.ToF64(), f = found.ToF64();
  const int bits = BitsOf(expected.dtype());
  const bool other = HasOtherData();
  const double relative = bits > 16                          ? 1e-3
                          : expected.dtype() == DType::kBF16 ? 8e-3
                          : other                            ? 5e-3
                                                             : 2e-3;
  const double absolute = bits > 16 ? (other ? 1e-5 : 2e-7) : (other ? 1e-3 : 1e-4);
  for (size_t k = 0; k < e.size(); ++k) {
    if (std::isnan(e[k]) && std::isnan(f[k])) continue;
    if (e[k] != f[k] && !(std::fabs(e[k] - f[k]) <= relative * std::fabs(e[k]) + absolute)) {
      return absl::StrCat("element ", k, " is ", f[k], ", expected ", e[k]);
    }
  }
  return "";
}

constexpr absl::string_view kMismatch = "data set";  // how messages about wrong outputs start

absl::Status RunDataSets(absl::StatusOr<graph::Graph> graph, const std::vector<DataSet>& sets) {
  if (!graph.ok()) return graph.status();
  OCTET_ASSIGN_OR_RETURN(auto program, engine::Program::Compile(*std::move(graph)));
  for (size_t i = 0; i < sets.size(); ++i) {
    if (sets[i].inputs.size() < program->inputs().size()) {
      return absl::InternalError(absl::StrCat("the data set has ", sets[i].inputs.size(),
                                              " inputs, the model ", program->inputs().size()));
    }
    const std::vector<Tensor> inputs(
        sets[i].inputs.begin(),
        sets[i].inputs.begin() + static_cast<std::ptrdiff_t>(program->inputs().size()));
    OCTET_ASSIGN_OR_RETURN(const std::vector<Tensor> found,
                           engine::RunProgram(*program, inputs, 1));
    if (found.size() != sets[i].outputs.size()) {
      return absl::InternalError(
          absl::StrCat("expected ", sets[i].outputs.size(), " outputs, found ", found.size()));
    }
    for (size_t k = 0; k < found.size(); ++k) {
      const std::string wrong = Compare(found[k], sets[i].outputs[k]);
      if (!wrong.empty())
        return absl::InternalError(absl::StrCat(kMismatch, " ", i, ", output ", k, ": ", wrong));
    }
  }
  return absl::OkStatus();
}

// OK when every data set is reproduced. *why_constants says why that took constants in place of
// inputs.
absl::Status Check(const SuiteModel& model, std::string* why_constants) {
  absl::StatusOr<graph::Graph> graph = ImportAsIs(model);
  if (!graph.ok() && !absl::IsUnimplemented(graph.status())) return graph.status();
  absl::StatusOr<std::vector<DataSet>> sets = ReadDataSets(model);
  if (!sets.ok()) return graph.ok() ? sets.status() : graph.status();
  const absl::Status first = RunDataSets(std::move(graph), *sets);
  if (!absl::IsUnimplemented(first) || sets->size() != 1 || sets->front().inputs.size() < 2)
    return first;
  *why_constants = std::string(first.message());
  std::vector<DataSet> bound = *sets;
  bound[0].inputs.resize(1);
  return RunDataSets(ImportWithConstants(model), bound).ok() ? absl::OkStatus() : first;
}

// "" when the model runs and gives other outputs than the stored ones.
std::string CheckWrongData(const SuiteModel& model) {
  std::string why_constants;
  const absl::Status status = Check(model, &why_constants);
  if (status.ok()) return "its stored outputs are reproduced";
  return absl::StartsWith(status.message(), kMismatch) ? "" : status.ToString();
}

// "" when the model is refused as it should be.
std::string CheckRefusal(const SuiteModel& model, const Verdict& verdict) {
  absl::StatusOr<graph::Graph> graph = ImportAsIs(model);
  const absl::Status refusal =
      graph.ok() ? engine::Program::Compile(*std::move(graph)).status() : graph.status();
  if (!absl::IsUnimplemented(refusal))
    return absl::StrCat("expected UNIMPLEMENTED, found ", refusal.ToString());
  for (const std::string& subject : verdict.subjects) {
    if (absl::StrContains(refusal.message(), subject)) return "";
  }
  return absl::StrCat("the refusal names none of ", absl::StrJoin(verdict.subjects, ", "), ": ",
                      refusal.message());
}

struct Totals {
  int passed = 0, passed_with_constants = 0, failed = 0, out_of_scope = 0;
  std::map<int64_t, std::pair<int, int>> by_opset;  // passed, in scope
};

void RunModel(const SuiteModel& model, const Verdict& verdict, bool known, Totals* totals) {
  std::string result;
  if (!verdict.reason.empty()) {
    ++totals->out_of_scope;
    const std::string wrong =
        verdict.wrong_data ? CheckWrongData(model) : CheckRefusal(model, verdict);
    if (!wrong.empty())
      ADD_FAILURE() << model.name << " is out of scope (" << verdict.reason << "): " << wrong;
    EXPECT_FALSE(known) << model.name << " is out of scope: remove it from failing.txt";
    result = (verdict.wrong_data ? "wrong data: " : "out of scope: ") + verdict.reason;
  } else {
    auto& [opset_passed, opset_in_scope] = totals->by_opset[model.opset];
    ++opset_in_scope;
    std::string why_constants;
    const absl::Status status = Check(model, &why_constants);
    if (status.ok()) {
      ++totals->passed;
      ++opset_passed;
      totals->passed_with_constants += !why_constants.empty();
      EXPECT_FALSE(known) << model.name << " passes: remove it from failing.txt";
      result =
          why_constants.empty()
              ? "pass"
              : absl::StrCat("pass, with constants for all inputs but the first: ", why_constants);
    } else {
      ++totals->failed;
      if (!known) ADD_FAILURE() << model.name << ": " << status;
      result = absl::StrCat("fail: ", status.ToString());
    }
  }
  std::printf("| %s | %s | %s |\n", model.name.c_str(), absl::StrJoin(model.operators, " ").c_str(),
              result.c_str());
  std::fflush(stdout);
}

TEST(OnnxSuiteTest, EveryInScopeModelPasses) {
  const std::vector<SuiteModel> models = FindSuiteModels();
  if (models.empty()) GTEST_SKIP() << SuiteFolder() << " is absent (package libonnx-testdata)";
  const bool own = !HasOtherData();  // the lists are the suite's
  const std::vector<Exclusion> exclusions = own ? ReadExclusions() : std::vector<Exclusion>();
  const std::vector<std::string> lines =
      own ? ReadLines("failing.txt") : std::vector<std::string>();
  const std::set<std::string> known(lines.begin(), lines.end());
  EXPECT_TRUE(std::is_sorted(lines.begin(), lines.end())) << "failing.txt is not sorted";
  const char* const filter = std::getenv("OCTET_CONFORMANCE_FILTER");
  Totals totals;
  std::set<std::string> seen;
  for (const SuiteModel& model : models) {
    seen.insert(model.name);
    const Verdict verdict = Judge(model, exclusions);
    if (filter != nullptr && !absl::StrContains(model.name, filter)) continue;
    RunModel(model, verdict, known.contains(model.name), &totals);
  }
  for (const std::string& name : known)
    EXPECT_TRUE(seen.contains(name)) << "failing.txt: there is no " << name;
  for (const Exclusion& e : exclusions)
    EXPECT_TRUE(e.used) << "out_of_scope.txt: nothing matches " << e.pattern;
  for (const auto& [opset, counts] : totals.by_opset) {
    std::printf("opset %d: %d of %d pass\n", static_cast<int>(opset), counts.first, counts.second);
  }
  const int in_scope = totals.passed + totals.failed;
  std::printf(
      "%d models: %d out of scope; of %d in scope %d pass (%.1f %%), %d of them with constants, %d "
      "fail\n",
      in_scope + totals.out_of_scope, totals.out_of_scope, in_scope, totals.passed,
      in_scope == 0 ? 100.0 : 100.0 * totals.passed / in_scope, totals.passed_with_constants,
      totals.failed);
}

}  // namespace
}  // namespace octet::conformance
