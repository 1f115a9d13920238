extension Configuration {
    /// Where the daemon of `file` listens. Whatever else is wrong with the file, or refers to an environment that only
    /// the daemon has, does not matter here.
    public static func controlSocket(
        file: String, environment: [String: String]
    ) throws(ConfigurationError) -> String {
        let places = UserPlaces(environment: environment)
        var problems = Problems(file: file)
        let content: SmallFile
        do throws(SmallFile.Fault) {
            content = try SmallFile(path: file, limit: maxFileSize)
        } catch {
            problems.error(nil, "cannot be read: \(error.message)")
            throw problems.error
        }
        guard let root = YAMLTree.parse(content.bytes, problems: &problems) else {
            if problems.errors.isEmpty { return places.controlSocket }
            throw problems.error
        }
        guard case .mapping(let pairs) = root.content, let control = pairs.first(where: { $0.key == "control" }) else {
            return places.controlSocket
        }
        let values = ValueReader(interpolation: Interpolation(environment: environment), home: places.home)
        var reader = FieldsReader(
            grammar: Grammar(providers: []), values: values, problems: Problems(file: file))
        let fields = reader.fields(control.value, Grammar.control)
        guard reader.problems.errors.isEmpty else { throw reader.problems.error }
        return fields.text("socket") ?? places.controlSocket
    }
}
