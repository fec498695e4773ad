"""Open models by name: `Qwen/Qwen3-Embedding-0.6B` of the Hugging Face hub as well as a folder.

    CACHE/hub/models--ORG--NAME/…        what was fetched, as huggingface_hub keeps it
    CACHE/exports/ORG--NAME/COMMIT/      artifacts that were exported here from a checkpoint of the hub
    CACHE/names/ORG--NAME.json           what each revision was when the hub was last asked

`names` tells hub ids from paths, `lookup` asks the hub what a name is, `download` fetches an artifact's files,
`exports` makes an artifact of a checkpoint in a process of its own, `opening` puts them together, and `cache` lists and
removes what is kept. CACHE is the folder that QUOIT_CACHE names, or quoit's folder in the user's cache.
"""
