// Force-included by the sanitizer presets: hides the sanitizer from headers whose type layouts depend on it.
//
// Debian's libraries are built without sanitizers. Abseil's hash tables (generations under ASan) and Protobuf's map fields
// (a mutex under TSan) change their layout when these macros are seen, so instrumented code would disagree with the
// libraries about every such object. The instrumentation itself does not depend on the macros. GCC 14 answers
// __has_feature as well, so that one has to go too.
#pragma GCC system_header
#undef __has_feature
#undef __SANITIZE_ADDRESS__
#undef __SANITIZE_THREAD__
