"""The files of providers of language models: what is wrong with them is found before anything is started."""

from dataclasses import replace

from flowcraft_sdk._config.diagnostics import Diagnostic
from flowcraft_server.config.llm_section import RecordedProviderSection, ScriptedProviderSection
from flowcraft_server.config.load import LoadResult


def with_provider_files(loaded: LoadResult) -> LoadResult:
    """The deployment with the mistakes in files of scripted and recorded replies among its diagnostics."""
    providers = loaded.settings.llm.providers if loaded.settings is not None else {}
    kept = {
        name: section
        for name, section in providers.items()
        if isinstance(section, ScriptedProviderSection | RecordedProviderSection)
    }
    diagnostics = []
    if kept:
        from flowcraft_server.llm.errors import LLMSettingsError
        from flowcraft_server.llm.recordings import Recordings
        from flowcraft_server.llm.script_rules import load_script

        for name, section in kept.items():
            path = ("llm", "providers", name, "file")
            try:
                if isinstance(section, ScriptedProviderSection):
                    load_script(loaded.place(section.file))
                else:
                    Recordings(loaded.place(section.file))
            except LLMSettingsError as error:
                origin = loaded.values.origin_of(path)
                position = origin.position if origin is not None else None
                diagnostics.append(Diagnostic("error", position, ".".join(path), str(error)))
    if not diagnostics:
        return loaded
    return replace(loaded, diagnostics=[*loaded.diagnostics, *diagnostics], settings=None)
