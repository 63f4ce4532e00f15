from hypothesis import settings

# A busy machine is no reason to fail.
settings.register_profile("llava-cot", deadline=None)
settings.load_profile("llava-cot")
