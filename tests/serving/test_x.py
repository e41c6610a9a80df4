import time, torch
from adapters.prompts import Message
from serving.types import GenerationRequest
from serving.runner import generate, Row
from serving.sampler import SamplingParams
from adapters.styles import Preset
def test_a(tiny, start_engine):
    e = start_engine()
    print(e.generate(GenerationRequest((Message("user","What is it?"),), seed=1, style="long")))
    print(e.generate(GenerationRequest((Message("user","What is a queue?"),), seed=1, style="long")))
def test_c(loaded):
    print(generate(loaded.model,[Row([1,2,3+i],SamplingParams(Preset(0,1,0,30))) for i in range(10)],eos_ids=[2]))
def test_b(tiny_grown):
    from serving.loader import load
    t=time.time()
    m=load(tiny_grown.config())
    print(time.time()-t, m.suppressed_ids)
def test_d(tiny):
    from serving.loader import load
    t=time.time()
    m=load(tiny.config(quantization="nf4"))
    print(time.time()-t, m.model)
    t=time.time()
    print(generate(m.model,[Row([1,2,3+i],SamplingParams(Preset(0,1,0,30))) for i in range(10)],eos_ids=[2]))
    print(time.time()-t)
