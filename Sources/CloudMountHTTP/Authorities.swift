import CCurl
import Glibc

/// Whose certificates are trusted: those in a file, or else those in a folder.
struct Authorities {
    private let file: String?
    private let folder: String?

    init(file: String) {
        self.file = file
        folder = nil
    }

    /// The system's, as libcurl was built to find them. Its file is preferred: with a folder, libcurl cannot keep the
    /// parsed certificates from one connection to the next.
    init(ofNewHandle raw: UnsafeMutableRawPointer) {
        let file = cm_easy_string(raw, CURLINFO_CAINFO).flatMap { access($0, R_OK) == 0 ? String(cString: $0) : nil }
        self.file = file
        folder = file == nil ? cm_easy_string(raw, CURLINFO_CAPATH).map { String(cString: $0) } : nil
    }

    func apply(to raw: UnsafeMutableRawPointer) {
        cm_easy_set_string(raw, CURLOPT_CAINFO, file)
        cm_easy_set_string(raw, CURLOPT_CAPATH, folder)
    }
}
